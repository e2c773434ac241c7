/* called SYMBOLS OUTPUT PROGRAM [ARGUMENT...]: appends the names of the functions of a static program
 * that were called, by it and the processes it makes, until each has executed another program; to
 * OUTPUT.children the names of those that only the others called (or called first).
 *
 * Every function begins with a breakpoint (ptrace(2)), which goes when it is hit. SYMBOLS has lines
 * "ADDRESS NAME", sorted by address, as nm(1) prints them. */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PROGRAM = 1, CHILD };

static struct function {
    unsigned long address;
    char *name;
    unsigned char first;
    int called;
} *functions;
static size_t count;

static void try(long result, const char *what)
{
    if (result < 0) {
        fprintf(stderr, "called: %s: %s\n", what, strerror(errno));
        exit(1);
    }
}

static void read_symbols(const char *path)
{
    FILE *file = fopen(path, "r");
    try(file ? 0 : -1, path);
    unsigned long address;
    char *name;
    while (fscanf(file, "%lx %ms", &address, &name) == 2) {
        if (count > 0 && functions[count - 1].address == address)
            continue;
        functions = reallocarray(functions, count + 1, sizeof *functions);
        try(functions ? 0 : -1, "memory");
        functions[count++] = (struct function) { .address = address, .name = name };
    }
    fclose(file);
}

static struct function *find(unsigned long address)
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (functions[middle].address < address)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && functions[low].address == address ? &functions[low] : NULL;
}

static int memory_of(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/mem", pid);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    try(fd, path);
    return fd;
}

/* What its addresses are counted from: the lowest one of its file in memory, or nothing in a program
 * that lies where its file says (elf(5), ET_EXEC). */
static unsigned long base_of(pid_t pid)
{
    char path[64];
    unsigned long base = 0;
    Elf64_Ehdr header;
    snprintf(path, sizeof path, "/proc/%d/exe", pid);
    int exe = open(path, O_RDONLY | O_CLOEXEC);
    try(exe, path);
    try(read(exe, &header, sizeof header) == sizeof header ? 0 : -1, path);
    close(exe);
    if (header.e_type == ET_EXEC)
        return 0;
    snprintf(path, sizeof path, "/proc/%d/maps", pid);
    FILE *file = fopen(path, "r");
    try(file && fscanf(file, "%lx", &base) == 1 ? 0 : -1, path);
    fclose(file);
    return base;
}

static void set_breakpoints(pid_t pid, unsigned long base)
{
    const unsigned char breakpoint = 0xcc;
    int memory = memory_of(pid);
    for (size_t i = 0; i < count; i++) {
        off_t at = base + functions[i].address;
        try(pread(memory, &functions[i].first, 1, at) - 1, functions[i].name);
        try(pwrite(memory, &breakpoint, 1, at) - 1, functions[i].name);
    }
    close(memory);
}

/* A breakpoint of ours was hit: the instruction comes back. */
static int resume(pid_t pid, unsigned long base, int by)
{
    struct user_regs_struct registers;
    try(ptrace(PTRACE_GETREGS, pid, 0, &registers), "PTRACE_GETREGS");
    struct function *function = find(registers.rip - 1 - base);
    if (!function)
        return 0;
    if (!function->called)
        function->called = by;
    int memory = memory_of(pid);
    try(pwrite(memory, &function->first, 1, --registers.rip) - 1, function->name);
    close(memory);
    try(ptrace(PTRACE_SETREGS, pid, 0, &registers), "PTRACE_SETREGS");
    return 1;
}

int main(int argc, char **argv)
{
    if (argc < 4)
        return 64;
    read_symbols(argv[1]);
    pid_t program = fork();
    if (program == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        execv(argv[3], argv + 3);
        _exit(127);
    }
    int status, result = 1;
    try(waitpid(program, &status, 0), "waitpid");
    long options = PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC;
    try(ptrace(PTRACE_SETOPTIONS, program, 0, options | PTRACE_O_EXITKILL), "PTRACE_SETOPTIONS");
    unsigned long base = base_of(program);
    set_breakpoints(program, base);
    ptrace(PTRACE_CONT, program, 0, 0);
    for (pid_t pid; (pid = waitpid(-1, &status, __WALL)) > 0;) {
        if (!WIFSTOPPED(status)) {
            if (pid == program)
                result = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
            continue;
        }
        int signal = WSTOPSIG(status), event = status >> 16;
        if (event == PTRACE_EVENT_EXEC) {
            /* From here on it is another program. */
            ptrace(PTRACE_DETACH, pid, 0, 0);
            continue;
        }
        if (event || signal == SIGSTOP || (signal == SIGTRAP && resume(pid, base, pid == program ? PROGRAM : CHILD)))
            signal = 0;
        ptrace(PTRACE_CONT, pid, 0, signal);
    }
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s.children", argv[2]);
    FILE *output = fopen(argv[2], "a"), *children = fopen(path, "a");
    try(output && children ? 0 : -1, path);
    for (size_t i = 0; i < count; i++) {
        if (functions[i].called)
            fprintf(output, "%s\n", functions[i].name);
        if (functions[i].called == CHILD)
            fprintf(children, "%s\n", functions[i].name);
    }
    fclose(output);
    fclose(children);
    return result;
}
