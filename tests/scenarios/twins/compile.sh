# compile: a program is compiled, and run where no SBOM calls it foreign

#: prepare
mkdir -p /srv/compile; cd /srv/compile
for i in 1 2 3; do printf \
  '#include <stdio.h>\nint f%s(int a) { printf("%%d\\n", a); return a + %s; }\n' $i $i > f$i.c; done
printf 'int f1(int), f2(int), f3(int);\nint main(void) { return f1(f2(f3(0))) != 6; }\n' > main.c
printf 'main: f1.o f2.o f3.o main.o\n\tgcc -o $@ $^\n%%.o: %%.c\n\tgcc -O2 -c $<\n' > Makefile
printf 'clean:\n\trm -f *.o main\n' >> Makefile
#: turn
cd /srv/compile; make -s -j2; nm main | grep -q 'T f1'; [ -n "$sbom" ] || ./main; make -s clean
