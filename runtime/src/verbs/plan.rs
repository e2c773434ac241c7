//! `plan`: what `run` would do, a line for each step.

use lexopt::Parser;

use crate::Error;
use crate::facts::HostFacts;
use crate::network::NetworkInput;
use crate::plan;
use crate::request::Mode;
use crate::spec::Bundle;
use crate::verbs::{
    Failure, Globals, LaunchOptions, next, print, shown, unexpected, unless_exposed,
};

pub(super) fn run(globals: &Globals, parser: &mut Parser) -> Result<u8, Failure> {
    let mut options = LaunchOptions::default();
    while let Some(word) = next(parser)? {
        if !options.take(&word, parser)? {
            return Err(unexpected(&word));
        }
    }
    options.id.get_or_insert_with(|| "plan".into());
    let request = options.request(globals, Mode::Foreground)?;
    let bundle = Bundle::load(&request.bundle)?;
    let network = NetworkInput::of(&request)?;
    let facts = HostFacts::gather(&request, &bundle)?;
    let plan = plan::plan(&bundle, network.as_ref(), &facts, &request);
    let plan = unless_exposed(plan.map_err(Error::from))?;
    print(&shown(&plan.to_string()))?;
    Ok(0)
}
