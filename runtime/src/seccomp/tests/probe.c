/* Loads the filter that comes on standard input, then makes one call and ends with 0 or the errno
 * of its failure: probe int80|x32|native NUMBER [ARGUMENT]...; or executes: probe exec PATH.
 * FLAGS in the environment are those of seccomp(2); a listener is closed at once. */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct sock_filter filter[4096];

int main(int argc, char **argv)
{
	long a[4] = { 0 }, result;
	char *const none[] = { argv[2], NULL };
	size_t size = 0;
	ssize_t count;

	while ((count = read(0, (char *)filter + size, sizeof(filter) - size)) > 0)
		size += count;
	for (int n = 2; n < argc && n < 6; n++)
		a[n - 2] = strtoul(argv[n], NULL, 0);
	struct sock_fprog program = { size / sizeof(filter[0]), filter };
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return 250;
	const char *text = getenv("FLAGS");
	unsigned long flags = text ? strtoul(text, NULL, 0) : 0;
	int listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
	if (listener < 0 || (!(flags & SECCOMP_FILTER_FLAG_NEW_LISTENER) && listener > 0))
		return 251;
	if (flags & SECCOMP_FILTER_FLAG_NEW_LISTENER)
		close(listener);
	if (!strcmp(argv[1], "exec")) {
		execve(argv[2], none, none + 1);
		return 252;
	}
	if (!strcmp(argv[1], "int80")) {
		asm volatile("int $0x80"
			     : "=a"(result)
			     : "a"(a[0]), "b"(a[1]), "c"(a[2]), "d"(a[3])
			     : "memory", "r8", "r9", "r10", "r11");
		result = (int)result;
	} else {
		if (!strcmp(argv[1], "x32"))
			a[0] |= 0x40000000;
		asm volatile("syscall"
			     : "=a"(result)
			     : "a"(a[0]), "D"(a[1]), "S"(a[2]), "d"(a[3])
			     : "memory", "rcx", "r11");
	}
	/* exit_group, so that nothing else need be allowed. */
	syscall(SYS_exit_group, result < 0 ? -result : 0);
	return 253;
}
