/* Leaves its parent, connects to a port of this machine and becomes a program whose input and
 * output are that connection. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct sockaddr_in peer = { .sin_family = AF_INET };

	if (argc < 3 || fork() != 0)
		return 0;
	setsid();
	peer.sin_port = htons((unsigned short)atoi(argv[1]));
	peer.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(fd, (struct sockaddr *)&peer, sizeof(peer)) != 0)
		return 1;
	for (int end = 0; end < 3; end++)
		dup2(fd, end);
	close(fd);
	execl(argv[2], argv[2], NULL);
	return 1;
}
