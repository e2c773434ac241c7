//! Known build files, each by its real tool in the build sandbox, without any network.

// A failed expectation is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use metactl_tests::apps::Repository;
use metactl_tests::needs::{
    CC, GIT, GRADLE, JDK, MAKE, MAVEN, MAVEN_PLUGINS, NPM, PYTHON_VENV, RUST,
};
use metactl_tests::{Host, eventually, on_host};

const SOON: Duration = Duration::from_secs(60);
const JAVA: &str = "public class Main {\n\
    public static void main(String[] words) throws Exception {\n\
        System.out.println(\"version made\");\n        Thread.sleep(1_000_000);\n    }\n}\n";

/// An instance whose daemon is what the build makes; deployed.
fn deployed(host: &Host, daemon: &str, build: &str, files: &[(&str, &str)]) -> Repository {
    let layer = format!("[daemon.app]\n{daemon}\n[build]\nwatch = 300ms\nnetwork = none\n{build}");
    let mut all = vec![(".metactl", layer.as_str())];
    all.extend(files);
    let repository = host.application("app", &all, "");
    // Longer than what any other command may take.
    let deploy = host.spawn(&["app", "deploy", "-x", "1.0"]);
    deploy.wait(Duration::from_secs(300)).ok();
    eventually("what was built", SOON, || {
        let log = fs::read_to_string(host.log("app", "app")).ok()?;
        log.contains("version made").then_some(())
    });
    repository
}

/// The release in use, on the server.
fn release(host: &Host) -> PathBuf {
    let dir = host.state("app").join("releases");
    let dirs = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    dirs.into_iter().find(|path| path.is_dir()).unwrap()
}

/// What builds keep for the next one.
fn home(host: &Host) -> PathBuf {
    host.root().join("var/cache/metactl/build/app/data")
}

fn script(word: &str) -> String {
    format!("#!/bin/sh\necho version {word}\nexec sleep 1000\n")
}

#[test]
fn maven_makes_a_jar() {
    on_host(&[GIT, JDK, MAVEN, MAVEN_PLUGINS], |host| {
        // Debian's own repository of Maven, below /usr, in place of the central one.
        let pom = "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\n\
            <groupId>org.example</groupId><artifactId>app</artifactId><version>1.0</version>\n\
            <properties><maven.compiler.source>17</maven.compiler.source><maven.compiler.target>17</maven.compiler.target>\n\
            <project.build.sourceEncoding>UTF-8</project.build.sourceEncoding></properties>\n\
            <build><finalName>app</finalName></build></project>\n";
        let settings = "<settings><mirrors><mirror><id>debian</id><mirrorOf>*</mirrorOf>\
            <url>file:///usr/share/maven-repo</url></mirror></mirrors></settings>\n";
        let files = [
            ("pom.xml", pom),
            (".mvn/maven.config", "-s\nsettings.xml\n"),
            ("settings.xml", settings),
            ("src/main/java/Main.java", JAVA),
        ];
        let repository = deployed(
            host,
            "platform = jvm\njvm.main = Main\njvm.classpath = app.jar",
            "output = target\n",
            &files,
        );
        assert!(release(host).join("app.jar").is_file());
        // What it fetched stays for the next build, which finds it when that mirror is gone.
        assert!(
            home(host)
                .join(".m2/repository/org/apache/maven/plugins")
                .is_dir()
        );
        let gone = settings
            .replace("/usr/share/maven-repo", "/no/such/place")
            .replace("<mirrors>", "<offline>true</offline><mirrors>");
        repository.write("settings.xml", &gone);
        repository.commit("2.0");
        let log = host.run(&["app", "deploy", "-s", "2.0"]).ok();
        log.says(&["-DskipTests"]);
        host.run(&["app", "stop"]).ok();
    });
}

#[test]
fn gradle_makes_a_jar() {
    on_host(&[GIT, JDK, GRADLE], |host| {
        let files = [
            ("build.gradle", "apply plugin: 'java'\n"),
            ("settings.gradle", "rootProject.name = 'app'\n"),
            ("src/main/java/Main.java", JAVA),
        ];
        deployed(
            host,
            "platform = jvm\njvm.main = Main\njvm.classpath = app.jar",
            "output = build/libs\n",
            &files,
        );
        assert!(home(host).join(".gradle").is_dir());
        host.run(&["app", "stop"]).ok();
    });
}

#[test]
fn npm_runs_the_build_and_the_tests() {
    on_host(&[GIT, NPM], |host| {
        let package = r#"{"name": "app", "version": "1.0.0", "private": true, "scripts": {
            "build": "node build.js", "test": "test -f made.sh && echo tests ran"}}"#;
        let build = format!(
            "require('fs').writeFileSync('made.sh', {}, {{mode: 0o755}})\n",
            serde_json::to_string(&script("made")).unwrap()
        );
        let files = [("package.json", package), ("build.js", &build)];
        deployed(host, "platform = exec\ncommand = ./made.sh", "", &files);
        host.run(&["app", "logs", "--deploy", "1"])
            .ok()
            .says(&["node build.js", "tests ran"]);
        assert!(home(host).join(".npm").is_dir());
        host.run(&["app", "stop"]).ok();
    });
}

#[test]
fn cargo_of_the_servers_usr() {
    on_host(&[GIT, CC, RUST], |host| {
        // A toolchain of rustup is in somebody's home, which a build does not see: here it is where Debian's is.
        let sysroot = host.command("rustc", &["--print", "sysroot"]).ok().stdout;
        let layers = format!("lowerdir={}:/usr", sysroot.trim());
        host.command("mount", &["-t", "overlay", "-o", &layers, "usr", "/usr"])
            .ok();
        host.is_settled();
        let cargo = "[package]\nname = \"app\"\nversion = \"1.0.0\"\nedition = \"2021\"\n";
        let main = "fn main() {\n    println!(\"version made\");\n    std::thread::sleep(std::time::Duration::from_secs(1000));\n}\n\
            #[test]\nfn it_is_tested() {}\n";
        let files = [("Cargo.toml", cargo), ("src/main.rs", main)];
        deployed(
            host,
            "platform = exec\ncommand = ./app",
            "output = target/release\n",
            &files,
        );
        host.run(&["app", "logs", "--deploy", "1"])
            .ok()
            .says(&["it_is_tested ... ok"]);
        host.run(&["app", "stop"]).ok();
    });
}

#[test]
fn a_toolchain_that_a_build_does_not_see_is_said() {
    on_host(&[GIT], |host| {
        let layer = "[daemon.app]\nplatform = exec\ncommand = ./app.sh\n[build]\ncommand = no-such-tool --all\n";
        host.application("app", &[(".metactl", layer), ("app.sh", &script("x"))], "");
        host.run(&["app", "deploy", "1.0"])
            .fails(1)
            .says(&["no-such-tool: not found", "below /usr, not /root"]);
    });
}

#[test]
fn make_and_setup_py() {
    on_host(&[GIT, MAKE, PYTHON_VENV], |host| {
        let setup = "from setuptools import setup\n\
            setup(name='app', version='1.0', py_modules=['app'], entry_points={'console_scripts': ['serve = app:main']})\n";
        let module = "import time\ndef main():\n    print('version made', flush=True)\n    time.sleep(1000)\n";
        let files = [("setup.py", setup), ("app.py", module)];
        let repository = deployed(
            host,
            "platform = exec\ncommand = venv/bin/serve",
            "",
            &files,
        );
        // A Makefile comes before it.
        let makefile = format!(
            "all:\n\tprintf '{}' > made.sh\n\tchmod +x made.sh\n",
            script("of make").replace('\n', "\\n")
        );
        let layer = "[daemon.app]\nplatform = exec\ncommand = ./made.sh\n[build]\nwatch = 300ms\nnetwork = none\n";
        repository
            .write("Makefile", &makefile)
            .write(".metactl", layer);
        repository.commit("2.0");
        host.run(&["app", "deploy", "2.0"])
            .ok()
            .says(&["make (Makefile)"]);
        eventually("what make made", SOON, || {
            let log = fs::read_to_string(host.log("app", "app")).ok()?;
            log.contains("version of make").then_some(())
        });
        host.run(&["app", "stop"]).ok();
    });
}
