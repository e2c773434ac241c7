use metactl_runtime::{ContainerId, LaunchRequest, launch};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let container = launch::launch(&LaunchRequest {
        root: "/run/hello".into(),
        ..LaunchRequest::new(ContainerId::new("hello")?, "/srv/hello")
    })?;
    println!("process {}", container.process.pid);
    let exit = container.wait()?;
    for warning in container.remove()?.warnings {
        eprintln!("{warning}");
    }
    std::process::exit(exit.code())
}
