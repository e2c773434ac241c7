//! Platforms with what Debian has: each serves a page from inside the sandbox, which says the port
//! and the user that it knows of. (Java's are in `slow_myapp.rs`.)

// A failed expectation is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::time::{Duration, Instant};

use metactl_tests::lan::Node;
use metactl_tests::needs::{
    GIT, GUNICORN, NODE, Need, PERL, PHP, PLACKUP, PUMA, PYTHON, RUBY, WEBRICK,
};
use metactl_tests::{Host, apps, on_host};

const SOON: Duration = Duration::from_secs(30);

/// Deploys an application whose `[daemon.web]` has these lines, and looks at its page: the port and
/// the uid that it says, and that a stop lets it end by itself.
fn serves(needs: &[Need], web: &str, files: &[(&str, &str)], port: u16) {
    let needs: Vec<Need> = [GIT].iter().chain(needs).copied().collect();
    on_host(&needs, |host| {
        deploy(host, web, files);
        let address = host.address("shop");
        // deploy came back after the page was there.
        let page = Node::server()
            .get(&format!("http://{address}:{port}/"))
            .unwrap();
        assert_eq!(page.status, 200, "{}", page.body);
        let uid = page
            .body
            .lines()
            .find_map(|line| line.strip_prefix("uid ")?.trim().parse::<u32>().ok());
        assert!(
            uid.is_some_and(|uid| (66_000..70_000).contains(&uid)),
            "{}",
            page.body
        );
        assert!(
            page.body.contains(&format!("port {port}\n")),
            "{}",
            page.body
        );
        stops_at_once(host);
    });
}

fn deploy(host: &Host, web: &str, files: &[(&str, &str)]) {
    let layer = format!("[daemon.web]\n{web}\n");
    let mut all = vec![(".metactl", layer.as_str())];
    all.extend(files);
    host.application("shop", &all, "");
    host.run(&["shop", "deploy", "1.0"]).ok();
}

/// The signal of the platform ends it: nobody waits for the kill after 30 s.
fn stops_at_once(host: &Host) {
    let begun = Instant::now();
    host.run(&["shop", "stop"]).ok();
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
    host.assert_nothing_left();
}

#[test]
fn python_in_gunicorn() {
    let app = "import os\n\
        def application(environ, start_response):\n    \
            start_response('200 OK', [('Content-Type', 'text/plain')])\n    \
            return [f\"uid {os.getuid()}\\nport {os.environ['PORT']}\\n\".encode()]\n";
    serves(
        &[PYTHON, GUNICORN],
        "python.wsgi = shop.web\npython.options = --workers 2",
        &[("shop/__init__.py", ""), ("shop/web.py", app)],
        80,
    );
}

/// A web server of a few lines, which a virtual environment or the host's Python runs.
const PYTHON_SERVER: &str = "import http.server, os, sys\n\
    class Page(http.server.BaseHTTPRequestHandler):\n    \
        def do_GET(self):\n        \
            text = f\"uid {os.getuid()}\\nport {os.environ['PORT']}\\nprefix {sys.prefix}\\n\".encode()\n        \
            self.send_response(200)\n        \
            self.end_headers()\n        \
            self.wfile.write(text)\n\
    http.server.HTTPServer(('', int(os.environ['PORT'])), Page).serve_forever()\n";

#[test]
fn python_script() {
    serves(
        &[PYTHON],
        "python.script = bin/server.py\nport = 8000",
        &[("bin/server.py", PYTHON_SERVER)],
        8000,
    );
}

#[test]
fn python_of_a_virtual_environment() {
    on_host(&[GIT, PYTHON], |host| {
        // What `python3 -m venv` makes, without the pip that Debian has in another package.
        let web = "python.module = server\npython.virtualenv = venv\nport = 8000\n\
            [build]\ncommand = /usr/bin/python3 -m venv --without-pip venv";
        deploy(host, web, &[("server.py", PYTHON_SERVER)]);
        let page = format!("http://{}:8000/", host.address("shop"));
        let body = Node::server().get_when_up(&page, SOON);
        assert!(body.contains("prefix /app/venv\n"), "{body}");
        stops_at_once(host);
    });
}

#[test]
fn node_script() {
    let app = "require('http').createServer((request, response) =>\n  \
        response.end(`uid ${process.getuid()}\\nport ${process.env.PORT}\\n`)\n\
        ).listen(process.env.PORT);\n";
    serves(
        &[NODE],
        "node.script = server.js\nport = 3000\nhealth = http",
        &[("server.js", app)],
        3000,
    );
}

const RACK: &str = "run lambda { |env|\n  \
    [200, {'Content-Type' => 'text/plain'},\n   \
     [\"uid #{Process.uid}\\nport #{ENV['PORT']}\\nserver #{env['SERVER_SOFTWARE']}\\n\"]]\n}\n";

#[test]
fn ruby_in_puma() {
    serves(
        &[RUBY, PUMA],
        "ruby.rack = config.ru",
        &[("config.ru", RACK)],
        80,
    );
}

#[test]
fn ruby_in_webrick_where_there_is_no_puma() {
    on_host(&[GIT, RUBY, WEBRICK], |host| {
        // This host's own /usr/bin is the machine's without puma.
        let layers = ["upper", "work"].map(|name| host.work().join(name));
        layers
            .iter()
            .for_each(|dir| fs::create_dir_all(dir).unwrap());
        let [upper, work] = layers.map(|dir| dir.display().to_string());
        let options = format!("lowerdir=/usr/bin,upperdir={upper},workdir={work}");
        let words = ["-t", "overlay", "-o", &options, "overlay", "/usr/bin"];
        host.command("mount", &words).ok();
        host.command("rm", &["-f", "/usr/bin/puma"]).ok();
        deploy(host, "ruby.rack = config.ru", &[("config.ru", RACK)]);
        let page = format!("http://{}/", host.address("shop"));
        let body = Node::server().get_when_up(&page, SOON);
        assert!(
            body.contains("server WEBrick") && body.contains("port 80\n"),
            "{body}"
        );
        host.run(&["shop", "stop"]).ok();
        host.command("umount", &["-l", "/usr/bin"]).ok();
        host.assert_nothing_left();
    });
}

#[test]
fn ruby_script() {
    let app = "require 'socket'\n\
        server = TCPServer.new('0.0.0.0', ENV['PORT'].to_i)\n\
        loop do\n  \
            client = server.accept\n  \
            while (line = client.gets) && line != \"\\r\\n\"; end\n  \
            client.write \"HTTP/1.0 200 OK\\r\\n\\r\\nuid #{Process.uid}\\nport #{ENV['PORT']}\\n\"\n  \
            client.close\n\
        end\n";
    serves(
        &[RUBY],
        "ruby.script = server.rb\nport = 4567",
        &[("server.rb", app)],
        4567,
    );
}

#[test]
fn php_folder_with_a_router() {
    let page = "<?php echo \"uid \", posix_getuid(), \"\\nport \", getenv('PORT'), \"\\n\";\n";
    let router = "<?php require __DIR__ . '/public/page.php';\n";
    serves(
        &[PHP],
        "php.root = public\nphp.router = router.php",
        &[("public/page.php", page), ("router.php", router)],
        80,
    );
}

#[test]
fn php_has_its_extensions_and_finishes_what_it_does() {
    on_host(&[GIT, PHP], |host| {
        // posix is built in, and Debian's configuration brings further ones.
        let page = "<?php echo php_ini_loaded_file(), \"\\n\", php_ini_scanned_files();\n";
        let slow = "<?php sleep(2); echo 'whole';";
        let files = [("public/index.php", page), ("public/slow.php", slow)];
        deploy(host, "php.root = public", &files);
        let address = host.address("shop");
        let body = Node::server().get_when_up(&format!("http://{address}/"), SOON);
        assert!(
            body.starts_with("/etc/php/") && body.contains("/conf.d/"),
            "{body}"
        );
        let status = host.run(&["shop", "exec", "--", "ls", "/etc/php"]).ok();
        let version = status.stdout.trim().to_owned();
        let inside = host
            .run(&["shop", "exec", "--", "ls", &format!("/etc/php/{version}")])
            .ok();
        assert_eq!(inside.stdout, "cli\nmods-available\n");
        // A stop waits for the page that is being made.
        let slow =
            std::thread::spawn(move || Node::server().get(&format!("http://{address}/slow.php")));
        std::thread::sleep(Duration::from_millis(700));
        stops_at_once(host);
        assert_eq!(slow.join().unwrap().unwrap().body, "whole");
    });
}

#[test]
fn perl_script() {
    let app = fs::read_to_string(apps::example("hello").join("server.pl"));
    assert!(
        app.is_ok_and(|text| text.contains("PORT")),
        "the example is the script of this test"
    );
    on_host(&[GIT, PERL], |host| {
        let script = fs::read_to_string(apps::example("hello").join("server.pl")).unwrap();
        deploy(
            host,
            "perl.script = server.pl\nport = 8000",
            &[("server.pl", &script)],
        );
        let address = host.address("shop");
        let server = Node::server();
        assert_eq!(
            server.get_when_up(&format!("http://{address}:8000/"), SOON),
            "Hello, sandbox\n"
        );
        let who = server
            .get(&format!("http://{address}:8000/whoami"))
            .unwrap()
            .body;
        assert!(who.contains("uid 66"), "{who}");
        stops_at_once(host);
    });
}

#[test]
fn perl_in_plackup() {
    let app =
        "sub { [200, ['Content-Type' => 'text/plain'], [\"uid $<\\nport $ENV{PORT}\\n\"]] }\n";
    serves(
        &[PERL, PLACKUP],
        "perl.psgi = app.psgi",
        &[("app.psgi", app)],
        80,
    );
}

#[test]
fn static_files_and_nothing_else() {
    on_host(&[GIT, PYTHON], |host| {
        let files = [
            ("public/index.html", "<p>front\n"),
            ("public/style.css", "p {}\n"),
            ("public/sub/page.html", "<p>page\n"),
            ("public/.metactl", "hidden\n"),
            ("public/.well-known/acme", "shown\n"),
            ("secret.txt", "secret\n"),
        ];
        let link = "static.root = public\n[build]\n\
            command = ln -s ../secret.txt public/link; ln -s /usr/lib/os-release public/sub/index.html; \
            ln -s style.css public/inside";
        deploy(host, link, &files);
        let (address, server) = (host.address("shop"), Node::server());
        let get = |path: &str| server.get(&format!("http://{address}/{path}")).unwrap();
        assert_eq!(get("").body, "<p>front\n");
        assert_eq!(get("style.css").body, "p {}\n");
        assert_eq!(get("inside").body, "p {}\n");
        assert_eq!(get("sub/page.html").body, "<p>page\n");
        assert_eq!(get(".well-known/acme").body, "shown\n");
        let refused = [
            ".metactl",
            "link",
            "sub/",
            "nothing",
            "../secret.txt",
            "%2e%2e/secret.txt",
            "sub/..%2f../secret.txt",
            ".well-known/",
        ];
        for path in refused {
            let page = get(path);
            assert_eq!(page.status, 404, "{path}: {}", page.body);
            assert!(
                !page.body.contains("secret\n") && !page.body.contains("PRETTY_NAME"),
                "{path}"
            );
        }
        stops_at_once(host);
    });
}

#[test]
fn what_is_missing_is_said_before_anything_starts() {
    on_host(&[GIT], |host| {
        host.application(
            "shop",
            &[(".metactl", "[daemon.web]\npython.script = nothing.py\n")],
            "",
        );
        host.run(&["shop", "deploy", "1.0"])
            .fails(69)
            .says(&[".metactl:2", "the release has no nothing.py"]);
        host.assert_nothing_left();
    });
}

#[test]
fn slow_page_with_an_error_is_rolled_back_unless_told_otherwise() {
    on_host(&[GIT, PYTHON], |host| {
        let page = |status: u16| {
            PYTHON_SERVER.replace(
                "self.send_response(200)",
                &format!("self.send_response({status})"),
            )
        };
        let layer = "[daemon.web]\npython.script = server.py\nport = 8000\nhealth = http\n";
        let good = page(404);
        let files = [(".metactl", layer), ("server.py", good.as_str())];
        let repository = host.application("shop", &files, "");
        // Any answer below 500 is one.
        host.run(&["shop", "deploy", "1.0"]).ok();
        repository.write("server.py", &page(503)).commit("2.0");
        host.run(&["shop", "deploy", "2.0"]).fails(10).says(&[
            "it listens on port 8000, but",
            "status 503",
            "health = tcp",
        ]);
        let local = host.root().join("etc/metactl/nodes/shop.conf");
        let text = fs::read_to_string(&local).unwrap();
        fs::write(&local, format!("{text}\n[daemon.web]\nhealth = tcp\n")).unwrap();
        host.run(&["shop", "deploy", "2.0"]).ok();
        let address = host.address("shop");
        let found = Node::server()
            .get(&format!("http://{address}:8000/"))
            .unwrap();
        assert_eq!(found.status, 503);
        stops_at_once(host);
    });
}

#[test]
fn the_environment_says_where_and_what_it_is() {
    on_host(&[GIT, PYTHON], |host| {
        let server = PYTHON_SERVER.replace(
            "text = f\"uid {os.getuid()}\\nport {os.environ['PORT']}\\nprefix {sys.prefix}\\n\".encode()",
            "text = ''.join(f'{k}={v}\\n' for k, v in os.environ.items()).encode()",
        );
        let web = "python.script = server.py\nport = 8000\n[env]\nLANG = de_DE.UTF-8";
        host.server_conf("[server]\nsite = prod\n");
        deploy(host, web, &[("server.py", &server)]);
        let address = host.address("shop");
        let body = Node::server().get_when_up(&format!("http://{address}:8000/"), SOON);
        let lines: Vec<&str> = body.lines().collect();
        for wanted in [
            "PORT=8000",
            "LANG=de_DE.UTF-8",
            "METACTL_APP=shop",
            "METACTL_INSTANCE=shop",
            "METACTL_ENTRY=web",
            "METACTL_SITE=prod",
            "METACTL_PORT=8000",
            &format!("METACTL_ADDRESS={address}"),
            "METACTL_APP_DIR=/app",
            "METACTL_DATA_DIR=/data",
            "METACTL_TMP_DIR=/tmp",
        ] {
            assert!(lines.contains(&wanted), "{wanted} is not in {body}");
        }
        let release = lines
            .iter()
            .find_map(|line| line.strip_prefix("METACTL_RELEASE="));
        assert!(release.is_some_and(|id| id.starts_with("1.0")), "{body}");
        stops_at_once(host);
    });
}
