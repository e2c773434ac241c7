//! `start`: lets the program of a created container run.

use lexopt::Parser;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};

use crate::launch::LaunchError;
use crate::report::{self, Message};
use crate::state::{State, StateDir, Status};
use crate::verbs::{Failure, Globals, only_id};
use crate::{ContainerId, Error};

pub(super) fn run(globals: &Globals, parser: &mut Parser) -> Result<u8, Failure> {
    let id = only_id(parser)?;
    let dir = StateDir::open(&globals.root, &ContainerId::new(&id)?)?;
    start(&dir)?;
    Ok(0)
}

fn start(dir: &StateDir) -> Result<(), Error> {
    let state = dir.load()?;
    let status = state.as_ref().map_or(Status::Creating, State::status);
    let Some(mut state) = state.filter(|_| status == Status::Created) else {
        return Err(LaunchError::Status {
            id: dir.id().to_string(),
            status: status.to_string(),
            need: "only a created one can be started",
        }
        .into());
    };
    // Said before it is done: were this process killed in between, the container would not be
    // taken for one that still waits.
    state.started = true;
    dir.save(&state)?;
    let problem = |e: rustix::io::Errno| LaunchError::system("reach the waiting process", e);
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(problem)?;
    connect(&socket, &dir.socket_address("start").map_err(problem)?).map_err(problem)?;
    let mut executing = false;
    loop {
        let message = report::receive(&socket)
            .map_err(|e| LaunchError::system("listen to the container", e))?;
        match message {
            Some((Message::Fault { step, fault }, _)) => {
                let words = state.steps.get(step).map_or("start", String::as_str);
                return Err(LaunchError::described(words, None, &fault).into());
            }
            Some((Message::Executing, _)) => executing = true,
            Some(_) => {}
            None if executing => return Ok(()),
            None => return Err(LaunchError::Died("").into()),
        }
    }
}
