/* A library that no package brings. */
int stranger(void);

int stranger(void)
{
	return 42;
}
