/* Makes a filter with libseccomp, from lines on standard input:
 *   default ACTION | arch TOKEN | rule ACTION NAME COUNT (INDEX OP VALUE VALUE)...
 * The program goes to standard output. Status 2: a name is not known. 17: rules contradict. */
#include <errno.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	char what[16], name[64];
	unsigned action, token, count;
	scmp_filter_ctx filter = NULL;

	if (argc == 2)
		return seccomp_syscall_resolve_name(argv[1]) == __NR_SCMP_ERROR ? 2 : 0;
	while (scanf("%15s", what) == 1) {
		if (!strcmp(what, "default")) {
			if (scanf("%u", &action) != 1 || !(filter = seccomp_init(action)))
				return 3;
			if (seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS))
				return 4;
		} else if (!strcmp(what, "arch")) {
			int error;
			if (scanf("%u", &token) != 1)
				return 5;
			error = seccomp_arch_add(filter, token);
			if (error && error != -EEXIST)
				return 6;
		} else {
			struct scmp_arg_cmp args[6];
			unsigned n;
			int call, error;
			if (scanf("%u %63s %u", &action, name, &count) != 3 || count > 6)
				return 7;
			for (n = 0; n < count; n++) {
				unsigned index, op;
				unsigned long long a, b;
				if (scanf("%u %u %llu %llu", &index, &op, &a, &b) != 4)
					return 8;
				args[n] = SCMP_CMP64(index, op, a, b);
			}
			call = seccomp_syscall_resolve_name(name);
			if (call == __NR_SCMP_ERROR)
				return 2;
			error = seccomp_rule_add_array(filter, action, call, count, args);
			if (error)
				return error == -EEXIST ? 17 : 9;
		}
	}
	return seccomp_export_bpf(filter, STDOUT_FILENO) ? 10 : 0;
}
