/* A program that no package brings: sleeps as many seconds as it is told. */
#include <stdlib.h>
#include <unistd.h>

int main(int count, char **arguments)
{
	sleep(count > 1 ? (unsigned)atoi(arguments[1]) : 1);
	return 0;
}
