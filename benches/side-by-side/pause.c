/* A program that waits for the signal that ends it, without a C library. */
void _start(void)
{
    for (;;) {
#if defined(__x86_64__)
        __asm__ volatile("mov $34, %%eax\n\tsyscall" ::: "rax", "rcx", "r11", "memory");
#elif defined(__aarch64__)
        /* ppoll(NULL, 0, NULL, NULL) */
        __asm__ volatile("mov x8, #73\n\tmov x0, #0\n\tmov x1, #0\n\tmov x2, #0\n\tmov x3, #0\n\tsvc #0"
                         ::: "x0", "x1", "x2", "x3", "x8", "memory");
#else
#error "no pause system call for this architecture"
#endif
    }
}
