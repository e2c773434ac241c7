use super::super::tests::try_launch;
use super::*;

#[test]
fn tomcat_is_tomcat10_started_as_its_script_does() {
    let launch = try_launch("tomcat", Some(8080), &[("tomcat.context", "/shop")]).unwrap();
    assert_eq!(launch.platform, "tomcat10");
    let tail = &launch.args[launch.args.len() - 8..];
    let wanted = [
        "-Djava.util.logging.config.file=/etc/metactl/web/tomcat/conf/logging.properties",
        "-Djava.util.logging.manager=org.apache.juli.ClassLoaderLogManager",
        "-Dcatalina.base=/etc/metactl/web/tomcat",
        "-Dcatalina.home=/usr/share/tomcat10",
        "-cp",
        "/usr/share/tomcat10/bin/bootstrap.jar:/usr/share/tomcat10/bin/tomcat-juli.jar",
        "org.apache.catalina.startup.Bootstrap",
        "start",
    ];
    assert_eq!(tail, wanted);
    assert!(launch.is_init && launch.java.is_some());
    let webapp = launch.webapp.unwrap();
    assert_eq!(
        webapp.file,
        Path::new("/etc/metactl/web/tomcat/conf/server.xml")
    );
    for part in [
        "<Connector port=\"8080\"",
        "path=\"/shop\" docBase=\"@WAR@\"",
        "<Server port=\"-1\">",
    ] {
        assert!(webapp.template.contains(part), "{}", webapp.template);
    }
    assert_eq!(launch.needs[0].what, "Tomcat 10");
}

#[test]
fn the_root_is_an_empty_path() {
    let launch = try_launch("tomcat9", None, &[("tomcat.war", "x.war")]).unwrap();
    let webapp = launch.webapp.unwrap();
    assert!(webapp.template.contains("<Context path=\"\""));
    assert!(webapp.template.contains("<Connector port=\"80\""));
    assert_eq!(webapp.war.unwrap(), Path::new("x.war"));
    assert!(launch.needs[0].hint.contains("tomcat9-common"));
}

#[test]
fn paths_that_are_none_are_refused() {
    for (key, value) in [
        ("tomcat.home", "tomcat"),
        ("tomcat.war", "../x.war"),
        ("tomcat.context", "/\"x"),
    ] {
        let error = try_launch("tomcat10", None, &[(key, value)]).unwrap_err();
        assert_eq!(error.key, key);
    }
}

#[test]
fn types_are_sorted_and_stand_once() {
    let mut sorted = mime::TYPES.map(|(extension, _)| extension).to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted, mime::TYPES.map(|(extension, _)| extension));
}
