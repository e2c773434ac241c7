//! What a helper of the runtime does where trees of the host cannot just be opened, see
//! [`crate::launch`].

use crate::compile::{CompileError, Compiler, Offer, Op, Program};
use crate::plan::attributes::Attributes;
use crate::plan::mounts::MountKind;
use crate::plan::{Plan, Step};

/// Compiles what opens the trees of `plan` that are `prepared`, in the order of its steps, with
/// `propagation`. With `asked` each is opened when it is asked for, in the mount namespace of who
/// asks; else all at once, in a mount namespace that nobody else is in.
pub fn offers(plan: &Plan, propagation: u64, asked: bool) -> Result<Program, CompileError> {
    let mut compiler = Compiler::default();
    let begin = match asked {
        true => Op::EnterView,
        false => Op::Unshare(libc::CLONE_NEWNS),
    };
    for (index, step) in plan.steps.iter().enumerate() {
        let (source, recursive, attributes) = match step {
            Step::Root {
                path,
                prepared: true,
                ..
            } => (path, true, Attributes::default()),
            Step::Mount(mount) if mount.prepared => match &mount.kind {
                MountKind::Bind { source, recursive } => (source, *recursive, mount.attributes),
                MountKind::New { .. } => continue,
            },
            _ => continue,
        };
        let source = compiler.path(source).map_err(|problem| problem.of(step))?;
        let ops = &mut compiler.program.ops;
        if ops.is_empty() {
            // Whatever it waits for, it must not outlive who could end it.
            ops.push((index, Op::DieWithRuntime));
            ops.push((index, begin));
        }
        let offer = Offer {
            source,
            recursive,
            propagation,
            attributes,
            asked,
        };
        ops.push((index, Op::Offer(offer)));
    }
    Ok(compiler.program)
}
