/* A program that is in no package: sleeps for the given number of seconds. */
#include <stdlib.h>
#include <unistd.h>

int main(int count, char **arguments)
{
	sleep(count > 1 ? (unsigned)atoi(arguments[1]) : 1);
	return 0;
}
