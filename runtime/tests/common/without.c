/* without LIST PROGRAM [ARGUMENT]...: runs a program on a kernel that lacks some system calls.
 *
 * LIST is NUMBER:ERRNO,...: the calls and what they answer. The number -1 is setns(2) with more than
 * one kind of namespace, which Linux before 5.8 does not know.
 *
 * A seccomp filter of its own kind: nothing else of the program changes (no no_new_privs), so this
 * needs CAP_SYS_ADMIN.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct sock_filter code[512];
static unsigned short length;

static void add(unsigned short op, unsigned char yes, unsigned char no, unsigned int k)
{
    struct sock_filter line = {op, yes, no, k};
    if (length < sizeof code / sizeof *code)
        code[length++] = line;
}

static void answer(int call, int error)
{
    unsigned int verdict = SECCOMP_RET_ERRNO | (error & SECCOMP_RET_DATA);
    if (call >= 0) {
        add(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, call);
        add(BPF_RET | BPF_K, 0, 0, verdict);
        return;
    }
    add(BPF_JMP | BPF_JEQ | BPF_K, 0, 6, SYS_setns);
    add(BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, args[1]));
    add(BPF_MISC | BPF_TAX, 0, 0, 0);
    add(BPF_ALU | BPF_SUB | BPF_K, 0, 0, 1);
    add(BPF_ALU | BPF_AND | BPF_X, 0, 0, 0);
    add(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, 0);
    add(BPF_RET | BPF_K, 0, 0, verdict);
    add(BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, nr));
}

int main(int argc, char **argv)
{
    char *at;
    if (argc < 3)
        return 126;
    add(BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, nr));
    for (at = strtok(argv[1], ","); at != NULL; at = strtok(NULL, ",")) {
        char *colon = strchr(at, ':');
        if (colon == NULL)
            return 126;
        answer(atoi(at), atoi(colon + 1));
    }
    add(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {length, code};
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0) {
        perror("without: seccomp");
        return 126;
    }
    execv(argv[2], argv + 2);
    perror("without: exec");
    return 126;
}
