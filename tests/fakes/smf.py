#!/usr/bin/python3
"""A FAKE of SMF: no Solaris can be had where the tests run.

It is called svccfg, svcadm, svcprop, svcs, crontab or pkill, keeps a repository of services in a file beside it, and
plays svc.startd: a process for each instance that is wanted. It knows what metactl asks and no more, and ends with an
error at anything else. What it does is written from the manual pages (svc.startd(8), svcadm(8), svccfg(8), svcprop(1),
smf_method(7), crontab(1)); whether a real SMF does the same, it cannot show.

A method runs in a "zone": a root of its own, in which the host's /usr is seen, and the release, the data and the
secrets are where the config.json of the bundle has them.
"""
import fcntl, json, os, re, signal, subprocess, sys, time
import xml.etree.ElementTree as tree

HERE = os.path.dirname(os.path.abspath(sys.argv[0]))
DIR = os.path.join(HERE, "state")
NAME = os.path.basename(sys.argv[0])
IDENT = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


def die(text):
    sys.stderr.write(f"{NAME}: {text}\n")
    sys.exit(1)


class Repository:
    """The services, while their file is locked."""

    def __enter__(self):
        self.lock = open(os.path.join(DIR, "lock"), "w")
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        try:
            self.all = json.load(open(os.path.join(DIR, "repository")))
        except FileNotFoundError:
            self.all = {"services": {}, "contracts": 1}
        return self

    def __exit__(self, *_):
        path = os.path.join(DIR, "repository")
        with open(path + ".new", "w") as file:
            json.dump(self.all, file)
        os.rename(path + ".new", path)
        self.lock.close()

    def service(self, name):
        return self.all["services"].get(name)

    def instance(self, fmri):
        match = re.fullmatch(r"svc:/([^:]+):([^:]+)", fmri)
        service = match and self.service(match[1])
        found = service and service["instances"].get(match[2])
        if not found:
            die(f"Pattern '{fmri}' doesn't match any instances")
        return found

    def composed(self, fmri):
        """The groups of properties of an instance, with what its service says."""
        own = self.instance(fmri)["groups"]
        service = self.service(fmri[5:].rpartition(":")[0])["groups"]
        # Property by property: what an instance does not say, its service does (smf(7), "Properties and Property Groups").
        return {name: {**service.get(name, {}), **own.get(name, {})} for name in {**service, **own}}

    def set(self, fmri, group, **values):
        groups = self.instance(fmri)["groups"].setdefault(group, {})
        groups.update({name: ["astring", value] for name, value in values.items()})

    def state(self, fmri, state, following="none"):
        self.set(fmri, "restarter", state=state, next_state=following, state_timestamp=f"{time.time():.9f}")


def get(groups, group, name, otherwise=""):
    return groups.get(group, {}).get(name, ["", otherwise])[1]


def is_wanted(groups):
    until_boot = get(groups, "general_ovr", "enabled", None)
    return (until_boot or get(groups, "general", "enabled", "false")) == "true"


def log_of(fmri):
    return os.path.join(DIR, "log", fmri[5:].replace("/", "-") + ".log")


def note(fmri, text):
    with open(log_of(fmri), "a") as file:
        file.write(time.strftime("[ %b %e %H:%M:%S ") + text + " ]\n")


# --- svccfg ---------------------------------------------------------------------------------------------------------


def groups_of(element):
    groups = {}
    for group in element.findall("property_group"):
        values = {prop.get("name"): [prop.get("type"), prop.get("value")] for prop in group.findall("propval")}
        for prop in group.findall("property"):
            values[prop.get("name")] = [prop.get("type"), [node.get("value") for node in prop.iter("value_node")]]
        groups[group.get("name")] = values
    for method in element.findall("exec_method"):
        groups[method.get("name")] = {
            "exec": ["astring", method.get("exec")],
            "timeout_seconds": ["count", method.get("timeout_seconds")],
        }
    for one in element.findall("dependency"):
        groups[one.get("name")] = {
            "grouping": ["astring", one.get("grouping")],
            "restart_on": ["astring", one.get("restart_on")],
            "type": ["astring", one.get("type")],
            "entities": ["fmri", one.find("service_fmri").get("value")],
        }
    context = element.find("method_context")
    if context is not None:
        credential = context.find("method_credential")
        groups["method_context"] = {
            "working_directory": ["astring", context.get("working_directory")],
            "project": ["astring", context.get("project", "")],
            "user": ["astring", credential.get("user")],
            "group": ["astring", credential.get("group")],
            "environment": ["astring", [f"{v.get('name')}={v.get('value')}" for v in context.iter("envvar")]],
        }
    for name in groups:
        if not IDENT.fullmatch(name) or len(name) > 119:
            die(f"invalid name of a property group: {name}")
    return groups


def parse(path):
    root = tree.parse(path).getroot()
    if root.tag != "service_bundle" or root.get("type") != "manifest":
        die("not a manifest")
    service = root.find("service")
    name = service.get("name")
    if not all(IDENT.fullmatch(part) for part in name.split("/")) or len(name) > 119:
        die(f"invalid service name {name}")
    return name, service


def svccfg(args):
    if args[0] == "validate":
        parse(args[1])
    elif args[0] == "import":
        name, element = parse(args[1])
        with Repository() as repository:
            service = repository.all["services"].setdefault(name, {"groups": {}, "instances": {}})
            service["groups"] = groups_of(element)
            found = [(one.get("name"), one.get("enabled"), groups_of(one)) for one in element.findall("instance")]
            found.append(("default", element.find("create_default_instance").get("enabled"), {}))
            for instance, enabled, groups in found:
                if not IDENT.fullmatch(instance) or len(instance) > 119:
                    die(f"invalid instance name {instance}")
                before = service["instances"].setdefault(instance, {"groups": {}})["groups"]
                # What the system itself has, and what an administrator has said, outlives an import.
                for kept in ("general", "general_ovr", "restarter"):
                    if kept in before:
                        groups[kept] = before[kept]
                groups.setdefault("general", {"enabled": ["boolean", enabled]})
                service["instances"][instance]["groups"] = groups
                if "restarter" not in groups:
                    repository.state(f"svc:/{name}:{instance}", "disabled")
    elif args[:2] == ["delete", "-f"]:
        name, _, instance = args[2][5:].partition(":")
        with Repository() as repository:
            service = repository.service(name) or die("no such service")
            gone = [instance] if instance else list(service["instances"])
            for one in gone:
                if get(service["instances"][one]["groups"], "restarter", "start_pid", "0") != "0":
                    die(f"{one} is running")
                del service["instances"][one]
            if not instance:
                del repository.all["services"][name]
    elif args[0] == "-s" and args[2] == "setprop":
        match = re.fullmatch(r"general/enabled = boolean: (true|false)", args[3]) or die(args[3])
        with Repository() as repository:
            groups = repository.instance(args[1])["groups"]
            groups["general"]["enabled"] = ["boolean", match[1]]
        settle(args[1])
    else:
        die(f"the fake does not know {args}")


# --- svcprop, svcs --------------------------------------------------------------------------------------------------


def svcprop(args):
    if args[:2] != ["-c", "-f"]:
        die(f"the fake does not know {args}")
    name, _, instance = args[2][5:].rpartition(":")
    with Repository() as repository:
        service = repository.service(name) or {"instances": {}}
        found = [one for one in service["instances"] if instance in ("*", one)]
        if not found:
            die(f"Pattern '{args[2]}' doesn't match any entities")
        for one in found:
            for group, values in repository.composed(f"svc:/{name}:{one}").items():
                for prop, (kind, value) in values.items():
                    words = value if isinstance(value, list) else [value]
                    quoted = [re.sub(r"([;&()|^<>\n \t\\\"'`])", r"\\\1", word) or '""' for word in words]
                    print(f"svc:/{name}:{one}/:properties/{group}/{prop} {kind} {' '.join(quoted)}")


def svcs(args):
    if args[0] != "-x":
        die(f"the fake does not know {args}")
    with Repository() as repository:
        groups = repository.composed(args[1])
        print(f"{args[1]} ({args[1]})\n State: {get(groups, 'restarter', 'state')} since today")
        why = get(groups, "restarter", "why")
        if why:
            print(f"Reason: {why}.")


# --- svcadm ---------------------------------------------------------------------------------------------------------


def svcadm(args):
    fmri, verb, options = args[-1], args[0], args[1:-1]
    if verb in ("enable", "disable") and set(options) <= {"-s", "-t"}:
        value = "true" if verb == "enable" else "false"
        with Repository() as repository:
            groups = repository.instance(fmri)["groups"]
            if "-t" in options:
                groups["general_ovr"] = {"enabled": ["boolean", value]}
            else:
                groups.pop("general_ovr", None)
                groups["general"]["enabled"] = ["boolean", value]
            if verb == "disable" and get(groups, "restarter", "state") == "maintenance":
                repository.state(fmri, "disabled")
        settle(fmri)
        while "-s" in options:
            with Repository() as repository:
                state = get(repository.instance(fmri)["groups"], "restarter", "state")
            if state == "maintenance":
                die(f'Instance "{fmri}" is in maintenance state.')
            if state == ("disabled" if verb == "disable" else "online"):
                break
            time.sleep(0.05)
    elif verb == "clear" and not options:
        with Repository() as repository:
            groups = repository.instance(fmri)["groups"]
            if get(groups, "restarter", "state") != "maintenance":
                die(f'Instance "{fmri}" is not in a maintenance or degraded state.')
            repository.state(fmri, "disabled")
        settle(fmri)
    else:
        die(f"the fake does not know {args}")


def settle(fmri):
    """There is a process for it when it is wanted; one that is no longer wanted sees that itself."""
    with Repository() as repository:
        groups = repository.instance(fmri)["groups"]
        begins = is_wanted(groups) and get(groups, "restarter", "state") == "disabled"
        if begins:
            note(fmri, "Enabled.")
            repository.state(fmri, "offline")
    if begins:
        subprocess.Popen(
            [sys.executable, os.path.join(HERE, "startd"), fmri],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )


# --- svc.startd -----------------------------------------------------------------------------------------------------


def shown(groups):
    """What the zone shows of the bundle: (place, source)."""
    zone = json.load(open(os.path.join(DIR, "zone.json")))
    bundle = os.path.join(zone["state"], get(groups, "metactl", "instance"), "bundles", get(groups, "metactl", "bundle"))
    entry = get(groups, "entrypoint", "name")
    entries = json.load(open(os.path.join(bundle, "manifest.json")))["entries"]
    directory = next(one["dir"] for one in entries if one["name"] == entry)
    mounts = json.load(open(os.path.join(bundle, directory, "config.json")))["mounts"]
    places = ("/app", "/data", "/tmp", "/run/")
    found = [(m["destination"], m["source"]) for m in mounts if m["type"] == "bind"]
    return [(place, source) for place, source in found if place.startswith(places) and zone["shows"]]


def launch(fmri, groups, method):
    """Runs a start method in the zone; its process."""
    context = groups["method_context"]
    zone = os.path.join(DIR, "zone")
    script = [f"set -e; mount -t tmpfs -o mode=755 zone {zone}; cd {zone}"]
    for name in ("usr", "bin", "sbin", "lib", "lib64", "etc", "dev", "proc"):
        if os.path.islink("/" + name):
            script.append(f"ln -s {os.readlink('/' + name)} {name}")
        elif os.path.isdir("/" + name):
            script.append(f"mkdir {name}; mount --rbind /{name} {name}")
    for place, source in shown(groups):
        make = f"mkdir -p .{place}" if os.path.isdir(source) else f"mkdir -p .{os.path.dirname(place)}; touch .{place}"
        script.append(f"{make}; mount --bind '{source}' .{place}")
    script.append('user=$1 group=$2 directory=$3 method=$4; shift 4')
    script.append(
        f'exec chroot --userspec="$user:$group" --groups="$group" {zone} /usr/bin/env -i "$@"'
        " /bin/sh -c 'cd \"$0\" && eval \"exec $1\"' \"$directory\" \"$method\""
    )
    words = [context[name][1] for name in ("user", "group", "working_directory")]
    # Tokens of svc.startd: metactl has none, so every `%` has to be doubled.
    if "%" in method.replace("%%", ""):
        note(fmri, "unknown method token")
        sys.exit(1)
    line = method.replace("%%", "%")
    note(fmri, f'Executing start method ("{method}").')
    output = open(log_of(fmri), "a")
    return subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", "\n".join(script), "zone", *words, line,
         *context["environment"][1]],
        stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
    )


def empties(group, limit):
    end = time.time() + limit
    while time.time() < end:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


def waits_for(repository, groups):
    """Why it cannot start yet; None when it can."""
    for values in groups.values():
        if "entities" not in values:
            continue
        needed, must = values["entities"][1], values["grouping"][1] == "require_all"
        if values["type"][1] == "path":
            place = needed.removeprefix("file://localhost")
            if not any(place == known or place.startswith(known + "/") for known, _ in shown(groups)):
                return f"Dependency {needed} is absent"
        elif needed.startswith("svc:/site/"):
            other = repository.composed(needed)
            state = get(other, "restarter", "state")
            if state != "online" and (must or (is_wanted(other) and state != "maintenance")):
                return f"Service {needed} is not running"
    return None


def loses(repository, groups):
    """Whether something that it needs has stopped."""
    needs = [v["entities"][1] for v in groups.values() if v.get("restart_on", ["", ""])[1] == "restart"]
    return any(get(repository.composed(one), "restarter", "state") != "online" for one in needs)


def startd(args):
    fmri, starts = args[0], []
    while True:
        with Repository() as repository:
            groups = repository.composed(fmri)
            if not is_wanted(groups):
                repository.state(fmri, "disabled")
                note(fmri, "Disabled.")
                return
            why = waits_for(repository, groups)
            repository.set(fmri, "restarter", why=why or "", logfile=log_of(fmri))
            method = groups["start"]["exec"][1]
            starts.append(time.time())
            recent = starts[-5:]
            period = float(get(groups, "startd", "critical_failure_period", "600"))
            if not why and method != ":true" and len(recent) == 5 and (recent[-1] - recent[0]) / 4 < period:
                note(fmri, "Restarting too quickly, changing state to maintenance.")
                repository.state(fmri, "maintenance")
                repository.set(fmri, "restarter", why="Restarting too quickly")
                return
            if not why:
                repository.state(fmri, "offline", "online")
                repository.all["contracts"] += 1
                contract = str(repository.all["contracts"])
        if why:
            starts.pop()
            time.sleep(0.05)
            continue
        if method == ":true":
            note(fmri, "Executing start method (null).")
            online(fmri, None)
            return
        transient = get(groups, "startd", "duration") == "transient"
        child = launch(fmri, groups, method)
        with Repository() as repository:
            kind = "transient_contract" if transient else "contract"
            repository.set(fmri, "restarter", start_pid=str(child.pid), **{kind: contract})
            repository.all.setdefault("groups", {})[contract] = child.pid
        if transient:
            code = child.wait()
            note(fmri, f'Method "start" exited with status {code}.')
            with Repository() as repository:
                repository.set(fmri, "restarter", start_pid="0", transient_contract="")
                if code != 0:
                    if code not in (95, 96, 99, 100):
                        note(fmri, "a method that fails so would be tried again")
                    repository.state(fmri, "maintenance")
                    repository.set(fmri, "restarter", why=f"Start method exited with status {code}")
                    return
            online(fmri, None)
            return
        if not online(fmri, child):
            return


def online(fmri, child):
    """Until it ends, or is not wanted. Whether it is started again."""
    with Repository() as repository:
        repository.state(fmri, "online")
    while True:
        with Repository() as repository:
            groups = repository.composed(fmri)
            wanted, lost = is_wanted(groups), child and loses(repository, groups)
            if not wanted or lost:
                repository.state(fmri, "online", "offline" if wanted else "disabled")
        if child and child.poll() is not None and wanted:
            why = {0: "all processes in service exited", 96: "service exited with a configuration error"}
            note(fmri, f"Stopping because {why.get(child.returncode, 'service exited with an error')}.")
            try:
                os.killpg(child.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            with Repository() as repository:
                repository.set(fmri, "restarter", start_pid="0", contract="")
                if child.returncode == 96:
                    repository.state(fmri, "maintenance")
                    repository.set(fmri, "restarter", why="Start method exited with $SMF_EXIT_ERR_CONFIG")
                    return False
                repository.state(fmri, "offline")
            return True
        if not wanted or lost:
            note(fmri, f"Stopping because {'dependency activity requires stop' if wanted else 'service disabled'}.")
            killed = False
            if child:
                match = re.fullmatch(r":kill -([A-Z0-9]+)", groups["stop"]["exec"][1])
                os.killpg(child.pid, getattr(signal, "SIG" + match[1]))
                child.poll()
                limit = time.time() + float(groups["stop"]["timeout_seconds"][1])
                while child.poll() is None and time.time() < limit:
                    time.sleep(0.02)
                if not empties(child.pid, max(0.1, limit - time.time())):
                    note(fmri, "Method or service exit timed out.  Killing contract.")
                    os.killpg(child.pid, signal.SIGKILL)
                    child.poll()
                    killed = True
            with Repository() as repository:
                repository.set(fmri, "restarter", start_pid="0", contract="")
                repository.state(fmri, "maintenance" if killed else "offline" if wanted else "disabled")
            return bool(wanted)
        time.sleep(0.05)


# --- the others -----------------------------------------------------------------------------------------------------


def crontab(args):
    path = os.path.join(DIR, "crontab")
    if args == ["-l"]:
        if not os.path.exists(path):
            die("can't open your crontab file.")
        sys.stdout.buffer.write(open(path, "rb").read())
    elif args == ["-r"]:
        os.remove(path)
    elif not args:
        text = sys.stdin.buffer.read()
        for line in text.decode("utf-8", "surrogateescape").splitlines():
            fields = line.split(None, 5)
            if not line.strip() or line.startswith(("#", "TZ=", "HOME=", "SHELL=")):
                continue
            if len(fields) < 6 or not all(re.fullmatch(r"\*|[0-9,-]+", field) for field in fields[:5]):
                die(f"error on previous line; unexpected character found in line: {line}")
        open(path, "wb").write(text)
    else:
        die(f"the fake does not know {args}")


def pkill(args):
    if args[:2] != ["-TERM", "-c"]:
        die(f"the fake does not know {args}")
    with Repository() as repository:
        group = repository.all.get("groups", {}).get(args[2])
    try:
        os.killpg(group, signal.SIGTERM)
    except (TypeError, ProcessLookupError):
        sys.exit(1)


def boot(_):
    """The server is booted: what was said until then is forgotten. Nothing may run."""
    fmris = []
    with Repository() as repository:
        for name, service in repository.all["services"].items():
            for one, instance in service["instances"].items():
                fmris.append(f"svc:/{name}:{one}")
                instance["groups"].pop("general_ovr", None)
                repository.state(fmris[-1], "disabled")
    for fmri in fmris:
        settle(fmri)


def main():
    for directory in ("log", "zone"):
        os.makedirs(os.path.join(DIR, directory), exist_ok=True)
    known = {f.__name__: f for f in (svccfg, svcprop, svcs, svcadm, startd, crontab, pkill, boot)}
    known[NAME](sys.argv[1:])


main()
