//! The threads of a JVM as a text, for who wants no program to take over.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::Threads;
use crate::error::{LifecycleError, Result};
use crate::instance::Instance;
use crate::manager::require_root;
use crate::scm::command;

/// How long a JVM may take.
const LIMIT: Duration = Duration::from_secs(60);

/// The threads of a JVM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ThreadDump {
    /// The instance.
    pub instance: String,
    /// The entry point.
    pub entry: String,
    /// What `jcmd ... Thread.print` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<String>,
    /// The log that has them, where the Java has no jcmd.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<PathBuf>,
}

impl Instance {
    /// What [`thread_dump`](Instance::thread_dump) prints.
    ///
    /// # Errors
    /// When no JVM runs there, or its tool fails.
    pub fn thread_dump_text(&self, entry: Option<&str>) -> Result<ThreadDump> {
        require_root("looking into a sandbox")?;
        let jvm = self.jvm(entry)?;
        let name = jvm.process.entry.clone();
        let mut dump = ThreadDump {
            instance: self.name.clone(),
            entry: name.clone(),
            threads: None,
            log: None,
        };
        let Some(jcmd) = jvm.tool("jcmd") else {
            let Threads::InLog(log) = self.thread_dump(Some(&name))?;
            dump.log = Some(log);
            return Ok(dump);
        };
        let words = [
            jcmd,
            jvm.inside.to_string(),
            "Thread.print".into(),
            "-l".into(),
        ];
        let words = words.map(OsString::from);
        let failed = |why: String| LifecycleError::Runtime {
            verb: format!("exec jcmd in {}", jvm.container),
            why,
        };
        let jcmd = self.runtime().exec(&jvm.container, &words, false);
        let output = command::run(jcmd, LIMIT).map_err(|error| failed(error.to_string()))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(failed(format!("{}: {}", output.status, said.trim())));
        }
        dump.threads = Some(String::from_utf8_lossy(&output.stdout).into_owned());
        Ok(dump)
    }
}
