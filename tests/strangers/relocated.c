/* A library whose text needs relocations: the loader makes it writable, stores the address, and
 * makes it executable again. */
int number = 42;

__asm__(".text\n"
	".globl place\n"
	"place: .quad number\n");
