// The source of ELF files that are seeds: a library with a symbol table, and a program with the
// same data as a kernel's file, with the compiler's DWARF or, given `BTF`, with that section.

struct list_head { struct list_head *next, *prev; };

struct task_struct {
    unsigned long flags;
    struct { int pid; union { short state; struct { int major, minor; }; }; };
    unsigned wide : 3, narrow : 5;
    struct list_head tasks;
    char comm[16];
    void (*call)(int);
    enum { PIDTYPE_PID, PIDTYPE_TGID } type;
};

struct task_struct init_task;
const char linux_banner[] = "Linux version 6.1.0-50-amd64 (debian)";
static struct task_struct *history;

struct task_struct *history_list(void) { return history; }
int enable_history_list = 1;
void _text(void) {}
void _stext(void) {}
void _etext(void) {}

#ifdef BTF
__asm__(".section .BTF,\"\",@progbits\n.incbin \"" BTF "\"\n.previous\n");
#endif
