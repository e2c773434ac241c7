#!/bin/sh
# Builds the release into build/: root.war for Jetty, jobmanager.jar and harvest.jar for plain Java.
# Needs a JDK (17 or newer) and the servlet API; reaches no network.
set -eu
cd "$(dirname "$0")"

servlet_api=/usr/share/java/servlet-api.jar
[ -e "$servlet_api" ] || { echo "build.sh: $servlet_api is missing; install libservlet-api-java" >&2; exit 1; }

out=build
classes=$out/classes
rm -rf "$out"
mkdir -p "$classes"

# compile NAME [JAVAC OPTIONS]: the sources of src/NAME into $classes/NAME
compile() {
    name=$1
    shift
    echo "compile $name"
    mkdir "$classes/$name"
    find "src/$name" -name '*.java' > "$classes/$name.list"
    javac --release 17 -encoding UTF-8 -Xlint:all -Werror "$@" -d "$classes/$name" "@$classes/$name.list"
}

compile webapp -cp "$servlet_api"
compile jobmanager
compile harvest

echo "package version $(cat VERSION)"
cp -R web "$classes/war"
mkdir -p "$classes/war/WEB-INF"
cp -R "$classes/webapp" "$classes/war/WEB-INF/classes"
cp VERSION "$classes/war/WEB-INF/classes/VERSION"
jar --create --file "$out/root.war" -C "$classes/war" .
jar --create --file "$out/jobmanager.jar" --main-class org.example.jobs.JobManager -C "$classes/jobmanager" .
jar --create --file "$out/harvest.jar" --main-class org.example.harvest.Harvest -C "$classes/harvest" .
rm -r "$classes"
