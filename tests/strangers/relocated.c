/* A library whose text needs relocations: the loader makes it writable, puts the address in, and makes it text again. */
int number = 42;

__asm__(".text\n"
	".globl place\n"
	"place: .quad number\n");
