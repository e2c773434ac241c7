//! A war file in Jetty and in Tomcat, and a jar file, as the whole source of an application.

// A failed expectation is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use metactl_tests::lan::Node;
use metactl_tests::needs::{JDK, JETTY, TOMCAT};
use metactl_tests::servers::tool;
use metactl_tests::{Host, eventually, on_host};

/// How long a JVM may take on a busy machine.
const JVM: Duration = Duration::from_secs(60);

/// Packs files into `name`, with jar(1) of the JDK.
fn pack(work: &Path, name: &str, files: &[(&str, &str)], more: &[&str]) -> PathBuf {
    let tree = work.join(format!("{name}.tree"));
    for (path, text) in files {
        let path = tree.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let archive = work.join(name);
    let mut words = vec!["jar", "--create", "--file", archive.to_str().unwrap()];
    words.extend(more);
    let tree = tree.to_str().unwrap();
    words.extend(["-C", tree, "."]);
    tool(work, &words);
    archive
}

/// Deploys a war, asks it for a page, and deploys its next version.
fn serves_a_war(host: &Host, platform: &str) {
    let work = host.work();
    let layer = format!("[daemon.web]\nplatform = {platform}\nport = 8080\n[build]\nwatch = 1s\n");
    let war = |word: &str| {
        let page = format!("<p>{word}</p>\n");
        let xml = "<web-app></web-app>\n";
        let files = [
            ("index.html", page.as_str()),
            ("WEB-INF/web.xml", xml),
            ("WEB-INF/classes/.metactl", layer.as_str()),
        ];
        pack(&work, "shop.war", &files, &[])
    };
    let file = war("first");
    host.local_layer("shop", &format!("[build]\nrepo = {}\n", file.display()));
    host.run(&["shop", "deploy", "--dry-run"])
        .ok()
        .says(&["nothing: the checkout is the release"]);
    host.run(&["shop", "deploy"]).ok();
    let url = format!("http://{}:8080/", host.address("shop"));
    let server = Node::server();
    let page = server.get_when_up(&url, JVM);
    assert!(page.contains("first"), "{page}");
    // The same file again is nothing new; another one is.
    host.run(&["shop", "deploy"])
        .ok()
        .says(&["shop already runs"]);
    war("second");
    host.run(&["shop", "deploy"])
        .ok()
        .says(&["Undo: metactl shop rollback shop.war-"]);
    eventually("the second one", JVM, || {
        server.get(&url).ok()?.body.contains("second").then_some(())
    });
    // One that is no archive changes nothing.
    fs::write(&file, "no zip file").unwrap();
    host.run(&["shop", "deploy"])
        .fails(1)
        .says(&["it is no zip file"]);
    assert!(server.get(&url).unwrap().body.contains("second"));
    host.run(&["shop", "stop"]).ok();
}

#[test]
fn a_war_file_in_jetty() {
    on_host(&[JDK, JETTY], |host| serves_a_war(host, "jetty9"));
}

#[test]
fn a_war_file_in_tomcat() {
    on_host(&[JDK, TOMCAT], |host| serves_a_war(host, "tomcat10"));
}

#[test]
fn a_jar_file() {
    on_host(&[JDK], |host| {
        let work = host.work();
        let code = "public class Main { public static void main(String[] words) throws Exception {\n\
                    System.out.println(\"told \" + words[0]); Thread.sleep(1_000_000); } }\n";
        fs::write(work.join("Main.java"), code).unwrap();
        tool(&work, &["javac", "-d", "tool.jar.tree", "Main.java"]);
        let layer =
            "[daemon.tool]\nplatform = jvm\njvm.jar = tool.jar hello\n[build]\nwatch = 300ms\n";
        let more = ["--main-class", "Main"];
        let jar = pack(&work, "tool.jar", &[("META-INF/.metactl", layer)], &more);
        host.run(&["new", "tool", jar.to_str().unwrap()]).ok();
        host.run(&["tool", "deploy"]).ok();
        eventually("its words", JVM, || {
            let log = fs::read_to_string(host.log("tool", "tool")).ok()?;
            log.contains("told hello").then_some(())
        });
        host.run(&["tool", "stop"]).ok();
    });
}
