/* The floor: what the kernel takes for a container that does nothing, when nobody reads a
 * configuration, keeps a state or checks anything. It does by hand, with as few system calls as
 * can be, what the measured config.json asks for (the one of `runc spec`): the namespaces, the
 * cgroup, the mounts, devices and masks, limits, capabilities, and with a filter seccomp.
 *
 * floor2 CGROUP ROOTFS PROGRAM [FILTER]            v2: the clone is born in the cgroup CGROUP
 * floor1 CGROUP ROOTFS PROGRAM FILTER|- HIERARCHY...
 *                                                  v1: it writes 0 to the `tasks` of CGROUP in each
 *                                                  mounted hierarchy
 * The name it is called by decides. FILTER is a file with the struct sock_filter array. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define HIERARCHIES 16

/* <sys/mount.h> cannot be had beside <linux/mount.h>. */
extern int umount2(const char *, int);
enum { DETACH = 2, PRIVATE = 1 << 18, SLAVE = 1 << 19, RECURSIVE = 0x8000 };

static void try(long result, const char *what)
{
    if (result < 0) {
        fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
        _exit(1);
    }
}

static void set_attributes(int fd, unsigned long set, unsigned long propagation, int flags)
{
    struct mount_attr attr = { .attr_set = set, .propagation = propagation };
    try(syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH | flags, &attr, sizeof attr), "mount_setattr");
}

static void attach(int tree, const char *target)
{
    try(syscall(SYS_move_mount, tree, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH), target);
}

/* A new file system; parameters are pairs of strings, a value NULL for a flag. */
static int filesystem(const char *type, const char *const *parameters, unsigned long attributes)
{
    int context = syscall(SYS_fsopen, type, FSOPEN_CLOEXEC);
    try(context, type);
    for (; parameters && parameters[0]; parameters += 2) {
        int command = parameters[1] ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG;
        try(syscall(SYS_fsconfig, context, command, parameters[0], parameters[1], 0), parameters[0]);
    }
    try(syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, 0, 0, 0), type);
    int mount = syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, attributes);
    try(mount, type);
    close(context);
    return mount;
}

static void mount_on(const char *target, const char *type, const char *const *parameters,
                     unsigned long attributes)
{
    int mount = filesystem(type, parameters, attributes);
    attach(mount, target);
    close(mount);
}

#define SUID MOUNT_ATTR_NOSUID
#define DEV MOUNT_ATTR_NODEV
#define EXEC MOUNT_ATTR_NOEXEC
#define RO MOUNT_ATTR_RDONLY
#define PARAMETERS(...) (const char *const[]) { __VA_ARGS__, NULL }

static void devices(void)
{
    static const struct { const char *path; int major, minor; } nodes[] = {
        { "dev/null", 1, 3 }, { "dev/zero", 1, 5 }, { "dev/full", 1, 7 },
        { "dev/random", 1, 8 }, { "dev/urandom", 1, 9 }, { "dev/tty", 5, 0 },
    };
    for (size_t i = 0; i < sizeof nodes / sizeof *nodes; i++)
        try(mknod(nodes[i].path, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)), nodes[i].path);
    static const char *const links[][2] = {
        { "/proc/self/fd", "dev/fd" }, { "/proc/self/fd/0", "dev/stdin" },
        { "/proc/self/fd/1", "dev/stdout" }, { "/proc/self/fd/2", "dev/stderr" },
        { "pts/ptmx", "dev/ptmx" },
    };
    for (size_t i = 0; i < sizeof links / sizeof *links; i++)
        try(symlink(links[i][0], links[i][1]), links[i][1]);
}

static void control_groups(int count, char *const *hierarchies)
{
    if (count == 0) {
        mount_on("sys/fs/cgroup", "cgroup2", NULL, SUID | DEV | EXEC | RO);
        return;
    }
    int top = filesystem("tmpfs", PARAMETERS("mode", "755"), SUID | DEV | EXEC);
    attach(top, "sys/fs/cgroup");
    for (int i = 0; i < count; i++) {
        char path[300];
        const char *name = strrchr(hierarchies[i], '/') + 1;
        snprintf(path, sizeof path, "sys/fs/cgroup/%s", name);
        try(mkdir(path, 0755), path);
        if (strcmp(name, "systemd") == 0)
            mount_on(path, "cgroup", PARAMETERS("none", NULL, "name", "systemd"), SUID | DEV | EXEC | RO);
        else
            mount_on(path, "cgroup", PARAMETERS(name, NULL), SUID | DEV | EXEC | RO);
    }
    set_attributes(top, RO, 0, 0);
    close(top);
}

static void mounts(int count, char *const *hierarchies)
{
    mount_on("proc", "proc", NULL, 0);
    mount_on("dev", "tmpfs", PARAMETERS("mode", "755", "size", "65536k"), SUID | MOUNT_ATTR_STRICTATIME);
    static const char *const directories[] = { "dev/pts", "dev/shm", "dev/mqueue" };
    for (int i = 0; i < 3; i++)
        try(mkdir(directories[i], 0755), directories[i]);
    mount_on("dev/pts", "devpts",
             PARAMETERS("newinstance", NULL, "ptmxmode", "0666", "mode", "0620", "gid", "5"), SUID | EXEC);
    mount_on("dev/shm", "tmpfs", PARAMETERS("mode", "1777", "size", "65536k"), SUID | EXEC | DEV);
    mount_on("dev/mqueue", "mqueue", NULL, SUID | EXEC | DEV);
    mount_on("sys", "sysfs", NULL, SUID | EXEC | DEV | RO);
    control_groups(count, hierarchies);
    devices();
}

static int clone_of(const char *path, int flags)
{
    return syscall(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | flags);
}

static void masks(void)
{
    static const char *const masked[] = {
        "proc/acpi", "proc/asound", "proc/kcore", "proc/keys", "proc/latency_stats", "proc/timer_list",
        "proc/timer_stats", "proc/sched_debug", "sys/firmware", "proc/scsi",
    };
    static const char *const read_only[] = {
        "proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger",
    };
    int empty = -1;
    for (size_t i = 0; i < sizeof masked / sizeof *masked; i++) {
        struct stat stat;
        if (lstat(masked[i], &stat) < 0)
            continue;
        int cover;
        if (!S_ISDIR(stat.st_mode)) {
            cover = clone_of("dev/null", 0);
        } else if (empty < 0) {
            cover = empty = filesystem("tmpfs", NULL, RO);
        } else {
            cover = syscall(SYS_open_tree, empty, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
        }
        try(cover, masked[i]);
        attach(cover, masked[i]);
    }
    for (size_t i = 0; i < sizeof read_only / sizeof *read_only; i++) {
        int cover = clone_of(read_only[i], RECURSIVE);
        if (cover < 0)
            continue;
        set_attributes(cover, RO, 0, RECURSIVE);
        attach(cover, read_only[i]);
        close(cover);
    }
}

static void identity(void)
{
    struct rlimit files = { 1024, 1024 };
    try(setrlimit(RLIMIT_NOFILE, &files), "setrlimit");
    unsigned keep = 1u << CAP_AUDIT_WRITE | 1u << CAP_KILL | 1u << CAP_NET_BIND_SERVICE;
    for (int cap = 0; cap <= CAP_LAST_CAP; cap++)
        if (cap >= 32 || !(keep & 1u << cap))
            try(prctl(PR_CAPBSET_DROP, cap, 0, 0, 0), "PR_CAPBSET_DROP");
    struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
    struct __user_cap_data_struct data[2] = { { keep, keep, keep }, { 0, 0, 0 } };
    try(syscall(SYS_capset, &header, data), "capset");
    try(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_AUDIT_WRITE, 0, 0), "ambient");
    try(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_KILL, 0, 0), "ambient");
    try(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_BIND_SERVICE, 0, 0), "ambient");
    try(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
}

static void loopback(void)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
    try(ioctl(fd, SIOCSIFFLAGS, &request), "lo");
    close(fd);
}

static void become(const char *rootfs, const char *program, struct sock_fprog *filter, int count,
                   char *const *hierarchies)
{
    try(sethostname("runc", 4), "sethostname");
    loopback();
    int top = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    set_attributes(top, 0, SLAVE, RECURSIVE);
    int root = clone_of(rootfs, RECURSIVE);
    try(root, rootfs);
    attach(root, rootfs);
    try(fchdir(root), "fchdir");
    mounts(count, hierarchies);
    masks();
    set_attributes(root, RO, 0, 0);
    try(syscall(SYS_pivot_root, ".", "."), "pivot_root");
    try(umount2(".", DETACH), "umount");
    try(setsid(), "setsid");
    identity();
    if (filter->len)
        try(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, filter), "seccomp");
    syscall(SYS_close_range, 3, ~0u, CLOSE_RANGE_CLOEXEC);
    char *arguments[] = { (char *) program, NULL }, *environment[] = { "PATH=/", NULL };
    execve(program, arguments, environment);
    try(-1, program);
}

static void read_filter(const char *path, struct sock_fprog *filter)
{
    static struct sock_filter program[4096];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    try(fd, path);
    ssize_t size = read(fd, program, sizeof program);
    try(size, path);
    close(fd);
    filter->len = size / sizeof *program;
    filter->filter = program;
}

static pid_t start(unsigned long long flags, int cgroup)
{
    struct clone_args args = {
        .flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET | flags,
        .exit_signal = SIGCHLD,
        .cgroup = cgroup,
    };
    pid_t pid = syscall(SYS_clone3, &args, sizeof args);
    try(pid, "clone3");
    return pid;
}

/* A new cpuset takes nobody before it has processors and memory. */
static void cpuset(const char *parent, const char *child)
{
    static const char *const names[] = { "cpuset.cpus", "cpuset.mems" };
    for (int i = 0; i < 2; i++) {
        char path[PATH_MAX + 20], text[4096];
        snprintf(path, sizeof path, "%s/%s", parent, names[i]);
        int from = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t size = read(from, text, sizeof text);
        try(size, path);
        snprintf(path, sizeof path, "%s/%s", child, names[i]);
        int to = open(path, O_WRONLY | O_CLOEXEC);
        try(write(to, text, size), path);
        close(from);
        close(to);
    }
}

int main(int argc, char **argv)
{
    if (argc < 4)
        return 64;
    const char *cgroup = argv[1], *rootfs = argv[2], *program = argv[3];
    int v1 = argv[0][strlen(argv[0]) - 1] == '1';
    struct sock_fprog filter = { 0 };
    if (argc > 4 && strcmp(argv[4], "-") != 0)
        read_filter(argv[4], &filter);
    int count = v1 && argc > 5 ? argc - 5 : 0, tasks[HIERARCHIES];
    char made[HIERARCHIES][PATH_MAX], path[PATH_MAX + 10];
    if (count > HIERARCHIES)
        return 64;
    for (int i = 0; i < count; i++) {
        snprintf(made[i], sizeof made[i], "%s/%s", argv[5 + i], cgroup);
        try(mkdir(made[i], 0755), made[i]);
        snprintf(path, sizeof path, "%s/tasks", made[i]);
        tasks[i] = open(path, O_WRONLY | O_CLOEXEC);
        try(tasks[i], path);
        if (strstr(argv[5 + i], "/cpuset"))
            cpuset(argv[5 + i], made[i]);
    }
    int directory = -1;
    if (!v1) {
        try(mkdir(cgroup, 0755), cgroup);
        directory = open(cgroup, O_PATH | O_DIRECTORY | O_CLOEXEC);
    }
    pid_t pid = v1 ? start(0, 0) : start(CLONE_NEWCGROUP | CLONE_INTO_CGROUP, directory);
    if (pid == 0) {
        for (int i = 0; i < count; i++)
            try(write(tasks[i], "0", 1), "tasks");
        if (v1)
            try(unshare(CLONE_NEWCGROUP), "unshare");
        become(rootfs, program, &filter, count, argv + 5);
    }
    int status;
    try(waitpid(pid, &status, 0), "waitpid");
    for (int i = 0; i < count; i++)
        try(rmdir(made[i]), made[i]);
    if (!v1)
        try(rmdir(cgroup), cgroup);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}
