/* A library that is in no package. */
int stranger(void);

int stranger(void)
{
	return 42;
}
