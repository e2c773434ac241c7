//! Java for real: a program that runs out of memory, and an application in Debian's Tomcat.

// A failed expectation is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use metactl_tests::lan::Node;
use metactl_tests::needs::{GIT, JDK, TOMCAT};
use metactl_tests::{Host, eventually, on_host};

/// How long a JVM may take on a busy machine.
const JVM: Duration = Duration::from_secs(60);

/// Fills its heap when somebody puts a file `fill` into its data.
const LEAK: &str = r#"
import java.io.File;
import java.util.ArrayList;

public class Leak {
    public static void main(String[] args) throws Exception {
        System.out.println("begun with " + (Runtime.getRuntime().maxMemory() >> 20) + "m, "
                + System.getProperty("greeting") + ", " + System.getProperty("a") + ", " + args[0]);
        File fill = new File("/data/fill");
        while (true) {
            if (fill.delete()) {
                ArrayList<byte[]> all = new ArrayList<>();
                while (true) {
                    all.add(new byte[1 << 20]);
                }
            }
            Thread.sleep(50);
        }
    }
}
"#;

const AGENT: &str = r#"
public class Agent {
    public static void premain(String options) {
        System.out.println("agent " + options);
    }
}
"#;

const BUILD_LEAK: &str = "#!/bin/sh
set -eu
javac -d out Leak.java Agent.java
echo 'Premain-Class: Agent' > manifest
jar --create --file out/agent.jar --manifest manifest -C out Agent.class
";

const LEAK_CONFIG: &str = "
[build]
command = ./build.sh
output = out

[daemon.leak]
jvm.main = Leak now
jvm.classpath = .
jvm.agents = agent.jar=hello
jvm.properties = a=words greeting=nobody
jvm.properties.greeting = good  day
jvm.options = -XX:+UseSerialGC
jvm.heap.max = 32m
jvm.heap.min = 16m
jvm.metaspace.max = 48m
jvm.direct.max = 8m
jvm.codecache.max = 24m
jvm.stack = 512k
jvm.threads = 64
jvm.gc.log = data
limits.memory = 160m
";

/// A program of the server that writes down what it is told, and where.
fn teller(host: &Host, name: &str, path: &Path) -> PathBuf {
    let told = host.work().join(name);
    fs::create_dir(&told).unwrap();
    fs::set_permissions(&told, fs::Permissions::from_mode(0o777)).unwrap();
    let script = format!(
        "#!/bin/sh\ncd {}\n{{ echo \"args: $*\"; id -un; env | sort; cat; }} > writing.$$ && mv writing.$$ told.$$\n",
        told.display()
    );
    fs::write(path, script).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    told
}

/// What a teller was told, one text for each time.
fn told(dir: &Path) -> Vec<String> {
    let mut texts = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.file_stem().unwrap() == "told" {
            texts.push(fs::read_to_string(path).unwrap());
        }
    }
    texts
}

fn dumps(data: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(data)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .filter(|path| path.extension().is_some_and(|ext| ext == "hprof"))
        .collect()
}

#[test]
fn a_jvm_without_memory_dumps_its_heap_comes_back_and_is_told_of() {
    on_host(&[GIT, JDK], |host| {
        // A sendmail of the test's own, where nothing else is.
        host.command(
            "mount",
            &["-t", "tmpfs", "-o", "mode=0755", "tmpfs", "/usr/local/sbin"],
        )
        .ok();
        host.is_settled();
        let mails = teller(host, "mails", Path::new("/usr/local/sbin/sendmail"));
        let program = host.work().join("tell");
        let calls = teller(host, "calls", &program);
        let files = [
            (".metactl", LEAK_CONFIG),
            ("build.sh", BUILD_LEAK),
            ("Leak.java", LEAK),
            ("Agent.java", AGENT),
        ];
        let local = format!(
            "[app]\nnotify.command = {} 'two words'\nnotify.mail = admin@example.org\n",
            program.display()
        );
        host.application("leaky", &files, &local);
        host.run(&["leaky", "deploy", "1.0"]).ok();
        let data = host.state("leaky").join("data");
        let log = || fs::read_to_string(host.log("leaky", "leak")).unwrap_or_default();
        let begun = |times: usize| {
            eventually("the program to begin", JVM, || {
                (log().matches("begun with").count() == times).then_some(())
            });
        };
        begun(1);
        assert!(log().contains("agent hello\n"), "{}", log());
        assert!(log().contains("m, good  day, words, now\n"), "{}", log());
        let largest: u64 = log()
            .split("begun with ")
            .nth(1)
            .unwrap()
            .split('m')
            .next()
            .unwrap()
            .parse()
            .unwrap();
        assert!((24..=32).contains(&largest), "{}", log());
        assert!(data.join("gc-leak.log").is_file());

        fs::write(data.join("fill"), "").unwrap();
        begun(2);
        let first = dumps(&data);
        assert_eq!(first.len(), 1, "{first:?}");
        let head = fs::read(&first[0]).unwrap();
        assert!(head.starts_with(b"JAVA PROFILE") && head.len() > 20 << 20);
        host.run(&["leaky", "status"])
            .ok()
            .says(&["running", "OutOfMemoryError"]);

        let call = eventually("the command to be called", JVM, || told(&calls).pop());
        for part in [
            "args: two words\nnobody\n",
            "METACTL_INSTANCE=leaky\n",
            "METACTL_ENTRY=leak\n",
            "METACTL_REASON=exit code 3 (OutOfMemoryError; the heap is in the data)\n",
            "METACTL_EXIT_CODE=3\n",
            "\nleaky leak on server1: exit code 3 (OutOfMemoryError",
            "\nmetactl leaky logs leak\n",
        ] {
            assert!(call.contains(part), "{part}:\n{call}");
        }
        let dump = format!("METACTL_HEAP_DUMP={}\n", first[0].display());
        assert!(call.contains(&dump), "{call}");
        let mail = eventually("the mail", JVM, || told(&mails).pop());
        for part in [
            "args: -i -- admin@example.org\nnobody\n",
            "\nTo: admin@example.org\nSubject: leaky leak on server1: exit code 3",
        ] {
            assert!(mail.contains(part), "{part}:\n{mail}");
        }

        // Again: another dump, and nobody is told twice in a moment. Of two within a second the
        // first one stays.
        std::thread::sleep(Duration::from_millis(1100));
        fs::write(data.join("fill"), "").unwrap();
        begun(3);
        assert_eq!(dumps(&data).len(), 2);
        assert_eq!((told(&calls).len(), told(&mails).len()), (1, 1));

        // Being stopped is no failure.
        host.run(&["leaky", "restart"]).ok();
        begun(4);
        host.run(&["leaky", "stop"]).ok();
        assert_eq!((told(&calls).len(), dumps(&data).len()), (1, 2));
    });
}

#[test]
fn notify_is_not_for_the_app_layer() {
    on_host(&[GIT], |host| {
        let program = host.work().join("tell");
        let calls = teller(host, "calls", &program);
        let command = program.display();
        // It fails some time after its start, so that it is no failed deployment.
        let config = format!(
            "[app]\nnotify.command = {command}\nnotify.mail = a@example.org\n\
             [daemon.main]\ncommand = sh -c 'sleep 4; exit 4'\n"
        );
        host.application("asks", &[(".metactl", &config)], "");
        host.run(&["asks", "deploy", "1.0"]).ok();
        eventually("it to fail", JVM, || {
            let status = host.run(&["asks", "status", "--json"]);
            status.stdout.contains("exit code 4").then_some(())
        });
        let asked = format!("asked for, not granted: [app] notify.command = {command}");
        host.run(&["asks", "show"]).ok().says(&[&asked]);
        host.run(&["asks", "stop"]).ok();
        assert_eq!(told(&calls), [""; 0]);
    });
}

#[test]
fn what_does_not_fit_is_told_before_anything_starts() {
    on_host(&[GIT], |host| {
        let config =
            "[daemon.big]\njvm.jar = big.jar\njvm.heap.max = 900m\njvm.metaspace.max = 200m\n";
        host.application("big", &[(".metactl", config)], "");
        host.run(&["big", "deploy", "1.0"]).fails(78).says(&[
            "the JVM of [daemon.big] may take 1140m, more than the 1g of `memory` of [sandbox.limits]",
            "heap 900m (jvm.heap.max, .metactl:3)",
            "metaspace 200m (jvm.metaspace.max, .metactl:4)",
            "jvm.heap.max = 784m would fit",
        ]);
        assert!(!host.state("big").join("bundle").exists());
    });
}

const SERVLET: &str = r#"
import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;

public class Hello extends HttpServlet {
    @Override
    protected void doGet(HttpServletRequest request, HttpServletResponse response) throws IOException {
        response.getWriter().println("Hello from " + System.getenv("METACTL_INSTANCE") + " at "
                + request.getContextPath() + request.getServletPath()
                + " as " + System.getProperty("user.name") + " of process " + ProcessHandle.current().pid());
    }
}
"#;

const WEB_XML: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<web-app xmlns="https://jakarta.ee/xml/ns/jakartaee" version="6.0">
  <servlet>
    <servlet-name>hello</servlet-name>
    <servlet-class>Hello</servlet-class>
  </servlet>
  <servlet-mapping>
    <servlet-name>hello</servlet-name>
    <url-pattern>/hello</url-pattern>
  </servlet-mapping>
</web-app>
"#;

const BUILD_WAR: &str = "#!/bin/sh
set -eu
mkdir -p war/WEB-INF/classes out
javac -cp /usr/share/tomcat10/lib/servlet-api.jar -d war/WEB-INF/classes Hello.java
cp web.xml war/WEB-INF/
cp page.jsp style.css war/
jar --create --file out/shop.war -C war .
";

#[test]
fn tomcat_serves_servlets_pages_and_files() {
    on_host(&[GIT, JDK, TOMCAT], |host| {
        let config = "[build]\ncommand = ./build.sh\noutput = out\n\
                      [daemon.web]\nplatform = tomcat\ntomcat.context = /shop\nport = 8080\n";
        let files = [
            (".metactl", config),
            ("build.sh", BUILD_WAR),
            ("Hello.java", SERVLET),
            ("web.xml", WEB_XML),
            (
                "page.jsp",
                "<% int six = 6; %>six times seven is <%= six * 7 %>\n",
            ),
            ("style.css", "p { color: red }\n"),
        ];
        host.application("shop", &files, "");
        host.run(&["shop", "deploy", "1.0"]).ok();
        let address = host.address("shop");
        let url = |path: &str| format!("http://{address}:8080/{path}");
        let server = Node::server();
        server.get_when_up(&url("shop/hello"), JVM);
        let get = |path: &str| {
            let page = server.get(&url(path)).unwrap();
            (page.status, page.body)
        };
        let (status, body) = get("shop/hello");
        assert_eq!(status, 200, "{body}");
        assert!(
            body.contains("Hello from shop at /shop/hello") && body.contains("of process 1\n"),
            "{body}"
        );
        let (status, body) = get("shop/page.jsp");
        assert!(
            status == 200 && body.contains("six times seven is 42"),
            "{status} {body}"
        );
        assert_eq!(
            get("shop/style.css"),
            (200, "p { color: red }\n".to_owned())
        );
        let (status, body) = get("shop/none");
        assert!(status == 404 && !body.contains("Tomcat"), "{status} {body}");
        let log = fs::read_to_string(host.log("shop", "web")).unwrap();
        assert!(log.contains("Server startup in"), "{log}");
        assert!(!log.contains("SEVERE") && !log.contains("WARN"), "{log}");
        host.run(&["shop", "stop"]).ok();
        let log = fs::read_to_string(host.log("shop", "web")).unwrap();
        assert!(log.contains("Stopping service"), "{log}");
    });
}
