/*
 * Runs a command, counts what it and its children do to the state on disk, and ends all of them just before the N-th:
 *
 *     cutter N HOW ROOT LOG COMMAND [ARGUMENT...]
 *
 * N is counted from 1; with 0 nothing is cut. What counts: system calls that make, change, name, sync or remove a file
 * below ROOT, and those that mount. Each is a line in LOG: its number, its name, the path. Control groups that are made
 * are lines with the number 0: a machine that loses its power has none of them afterwards.
 *
 * HOW is
 *   all    every process that came of the command is killed;
 *   alone  only the command is killed; its children go on, and are waited for;
 *   power  the file system that has ROOT/data takes no more writes, its caches are lost, and every process is killed;
 *   machine  the kernel resets the machine, as it does when it is told to by SysRq.
 *
 * Ends with the command's status, or with 99 after a cut.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/openat2.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define CUT_STATUS 99
/* ioctl_ext4(2) and xfs: stop at once, without writing the journal. */
#define SHUTDOWN _IOR('X', 125, unsigned int)
#define WITHOUT_JOURNAL 2u

/* How a call tells its file. */
enum where {
	FD,     /* argument `at` is an open file */
	PATH,   /* argument `at` is a path, relative to the working directory */
	AT,     /* argument `at` is a directory, the next one a path in it */
	NOWHERE /* it always counts */
};

struct call {
	long number;
	const char *name;
	enum where where;
	int at;
};

static const struct call CALLS[] = {
#ifdef __NR_open
	{__NR_mkdir, "mkdir", PATH, 0},
	{__NR_rmdir, "rmdir", PATH, 0},
	{__NR_unlink, "unlink", PATH, 0},
	{__NR_rename, "rename", PATH, 1},
	{__NR_link, "link", PATH, 1},
	{__NR_symlink, "symlink", PATH, 1},
	{__NR_chmod, "chmod", PATH, 0},
	{__NR_chown, "chown", PATH, 0},
	{__NR_lchown, "lchown", PATH, 0},
	{__NR_mknod, "mknod", PATH, 0},
	{__NR_renameat, "renameat", AT, 2},
#endif
	{__NR_openat, "openat", AT, 0},
	{__NR_openat2, "openat2", AT, 0},
	{__NR_mkdirat, "mkdirat", AT, 0},
	{__NR_mknodat, "mknodat", AT, 0},
	{__NR_unlinkat, "unlinkat", AT, 0},
	{__NR_renameat2, "renameat2", AT, 2},
	{__NR_linkat, "linkat", AT, 2},
	{__NR_symlinkat, "symlinkat", AT, 1},
	{__NR_truncate, "truncate", PATH, 0},
	{__NR_ftruncate, "ftruncate", FD, 0},
	{__NR_fallocate, "fallocate", FD, 0},
	{__NR_write, "write", FD, 0},
	{__NR_writev, "writev", FD, 0},
	{__NR_pwrite64, "pwrite64", FD, 0},
	{__NR_pwritev, "pwritev", FD, 0},
	{__NR_copy_file_range, "copy_file_range", FD, 2},
	{__NR_sendfile, "sendfile", FD, 0},
	{__NR_splice, "splice", FD, 2},
	{__NR_fsync, "fsync", FD, 0},
	{__NR_fdatasync, "fdatasync", FD, 0},
	{__NR_syncfs, "syncfs", FD, 0},
	{__NR_fchmod, "fchmod", FD, 0},
	{__NR_fchmodat, "fchmodat", AT, 0},
	{__NR_fchown, "fchown", FD, 0},
	{__NR_fchownat, "fchownat", AT, 0},
	{__NR_utimensat, "utimensat", AT, 0},
	{__NR_setxattr, "setxattr", PATH, 0},
	{__NR_lsetxattr, "lsetxattr", PATH, 0},
	{__NR_fsetxattr, "fsetxattr", FD, 0},
	{__NR_mount, "mount", NOWHERE, 0},
	{__NR_umount2, "umount2", NOWHERE, 0},
	{__NR_move_mount, "move_mount", NOWHERE, 0},
};
#define COUNT (sizeof CALLS / sizeof *CALLS)
#define CREATES (O_CREAT | O_TRUNC | (O_TMPFILE & ~O_DIRECTORY))

static const char *root;
static size_t root_length;
static long wanted;
static const char *how;
static FILE *log_file;
static int data = -1;
static pid_t command;
static long done;
static pid_t *known;
static size_t known_count, known_room;

static void fail(const char *what)
{
	fprintf(stderr, "cutter: %s: %s\n", what, strerror(errno));
	exit(98);
}

/* Stops at the calls in question, and at no other. */
static void filter(void)
{
	struct sock_filter code[2 * COUNT + 8];
	size_t n = 0;
	code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
	for (size_t i = 0; i < COUNT; i++) {
		if (CALLS[i].number == __NR_openat)
			continue;
		code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, CALLS[i].number, 0, 1);
		code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE);
	}
	code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_openat, 0, 3);
	code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2]));
	code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CREATES, 0, 1);
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE);
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog program = {.len = n, .filter = code};
	/* Without no_new_privs, which would change what the command can do: we are root. */
	if (syscall(__NR_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program))
		fail("seccomp");
}

static int link_of(pid_t pid, const char *name, char *path)
{
	char link[64];
	snprintf(link, sizeof link, "/proc/%d/%s", pid, name);
	ssize_t length = readlink(link, path, PATH_MAX - 1);
	if (length < 0)
		return -1;
	path[length] = 0;
	return 0;
}

static int directory_of(pid_t pid, int fd, char *path)
{
	char name[32];
	if (fd == AT_FDCWD)
		return link_of(pid, "cwd", path);
	snprintf(name, sizeof name, "fd/%d", fd);
	return link_of(pid, name, path);
}

/* Reads what is there of a string or structure; pages may end before it does. */
static void peek(pid_t pid, unsigned long from, char *to, size_t size)
{
	memset(to, 0, size);
	for (size_t have = 0; have < size - 1;) {
		size_t part = 256 - (from + have) % 256;
		if (part > size - 1 - have)
			part = size - 1 - have;
		struct iovec here = {to + have, part}, there = {(void *)(from + have), part};
		ssize_t got = process_vm_readv(pid, &here, 1, &there, 1, 0);
		if (got <= 0 || memchr(to + have, 0, got))
			return;
		have += got;
	}
}

static void join(char *path, const char *directory, const char *name)
{
	size_t length = strlen(directory);
	if (length + strlen(name) + 2 > PATH_MAX)
		return;
	memcpy(path, directory, length);
	path[length] = '/';
	strcpy(path + length + 1, name);
}

/* The file that a call is about, or an empty string. */
static void file_of(pid_t pid, const struct call *call, const __uint64_t *arguments, char *path)
{
	char name[PATH_MAX] = "", directory[PATH_MAX] = "";
	path[0] = 0;
	switch (call->where) {
	case NOWHERE:
		return;
	case FD:
		if (directory_of(pid, (int)arguments[call->at], directory))
			directory[0] = 0;
		break;
	case PATH:
		peek(pid, arguments[call->at], name, sizeof name);
		if (name[0] != '/' && directory_of(pid, AT_FDCWD, directory))
			directory[0] = 0;
		break;
	case AT:
		if (arguments[call->at + 1])
			peek(pid, arguments[call->at + 1], name, sizeof name);
		if (name[0] != '/' && directory_of(pid, (int)arguments[call->at], directory))
			directory[0] = 0;
		break;
	}
	if (name[0] == '/' || !directory[0])
		snprintf(path, PATH_MAX, "%s", name);
	else if (!name[0])
		snprintf(path, PATH_MAX, "%s", directory);
	else
		join(path, directory, name);
	if (!strncmp(path, "/proc/self/fd/", 14) && directory_of(pid, atoi(path + 14), directory) == 0)
		strcpy(path, directory);
}

static void know(pid_t pid)
{
	if (known_count == known_room) {
		known_room = known_room ? 2 * known_room : 64;
		known = realloc(known, known_room * sizeof *known);
		if (!known)
			fail("realloc");
	}
	known[known_count++] = pid;
}

static void forget(pid_t pid)
{
	for (size_t i = 0; i < known_count; i++)
		if (known[i] == pid)
			known[i] = known[--known_count];
}

/* Nothing of it runs any more when this returns, nor holds a file open. */
static void kill_all(void)
{
	int status;
	pid_t pid;
	for (size_t i = 0; i < known_count; i++)
		kill(known[i], SIGKILL);
	while ((pid = waitpid(-1, &status, __WALL)) > 0 || errno == EINTR) {
		unsigned long child;
		/* One that was just being made is ours too. */
		if (pid > 0 && WIFSTOPPED(status)) {
			if (ptrace(PTRACE_GETEVENTMSG, pid, 0, &child) == 0 && child > 1)
				kill((pid_t)child, SIGKILL);
			kill(pid, SIGKILL);
		}
	}
}

static void reset_machine(void)
{
	int trigger = open("/proc/sysrq-trigger", O_WRONLY | O_CLOEXEC);
	if (trigger < 0 || write(trigger, "b", 1) != 1)
		fail("/proc/sysrq-trigger");
	for (;;)
		pause();
}

static void cut(void)
{
	fflush(log_file);
	if (!strcmp(how, "machine"))
		reset_machine();
	if (!strcmp(how, "alone")) {
		kill(command, SIGKILL);
		return;
	}
	unsigned int flags = WITHOUT_JOURNAL;
	if (!strcmp(how, "power") && ioctl(data, SHUTDOWN, &flags))
		fail("EXT4_IOC_SHUTDOWN");
	kill_all();
	exit(CUT_STATUS);
}

static void consider(pid_t pid)
{
	struct __ptrace_syscall_info info;
	if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof info, &info) < 0)
		return;
	const struct call *call = NULL;
	for (size_t i = 0; i < COUNT; i++)
		if (CALLS[i].number == (long)info.seccomp.nr)
			call = &CALLS[i];
	if (!call)
		return;
	if (call->number == __NR_openat2) {
		struct open_how open_how;
		char bytes[sizeof open_how + 1];
		struct iovec here = {bytes, sizeof open_how}, there = {(void *)info.seccomp.args[2], sizeof open_how};
		if (process_vm_readv(pid, &here, 1, &there, 1, 0) != sizeof open_how)
			return;
		memcpy(&open_how, bytes, sizeof open_how);
		if (!(open_how.flags & CREATES))
			return;
	}
	char path[PATH_MAX];
	file_of(pid, call, info.seccomp.args, path);
	if (call->where != NOWHERE && strncmp(path, root, root_length)) {
		if (!strncmp(call->name, "mkdir", 5) && !strncmp(path, "/sys/fs/cgroup/", 15))
			fprintf(log_file, "0 %s %s\n", call->name, path);
		return;
	}
	done++;
	fprintf(log_file, "%ld %s %s\n", done, call->name, path);
	if (done == wanted)
		cut();
}

int main(int count, char **words)
{
	if (count < 6) {
		fprintf(stderr, "usage: cutter N HOW ROOT LOG COMMAND...\n");
		return 98;
	}
	wanted = atol(words[1]);
	how = words[2];
	root = words[3];
	root_length = strlen(root);
	log_file = fopen(words[4], "we");
	if (!log_file)
		fail(words[4]);
	if (!strcmp(how, "power")) {
		char path[PATH_MAX];
		snprintf(path, sizeof path, "%s/data", root);
		data = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (data < 0)
			fail(path);
	}
	command = fork();
	if (command < 0)
		fail("fork");
	if (command == 0) {
		raise(SIGSTOP);
		filter();
		execvp(words[5], words + 5);
		fail(words[5]);
	}
	int status, last = 0;
	if (waitpid(command, &status, WUNTRACED) != command)
		fail("waitpid");
	long options = PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACESECCOMP |
		       PTRACE_O_EXITKILL;
	if (ptrace(PTRACE_SEIZE, command, 0, options))
		fail("PTRACE_SEIZE");
	know(command);
	kill(command, SIGCONT);
	for (;;) {
		pid_t pid = waitpid(-1, &status, __WALL);
		if (pid < 0 && errno == EINTR)
			continue;
		if (pid < 0)
			break;
		if (!WIFSTOPPED(status)) {
			forget(pid);
			if (pid == command)
				last = status;
			continue;
		}
		int event = status >> 16, signal = 0;
		unsigned long child = 0;
		switch (event) {
		case PTRACE_EVENT_CLONE:
		case PTRACE_EVENT_FORK:
		case PTRACE_EVENT_VFORK:
			if (ptrace(PTRACE_GETEVENTMSG, pid, 0, &child) == 0)
				know((pid_t)child);
			break;
		case PTRACE_EVENT_SECCOMP:
			consider(pid);
			break;
		case PTRACE_EVENT_STOP:
			signal = WSTOPSIG(status);
			/* A group stop: it stays one, until someone continues it. */
			if (signal == SIGSTOP || signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU) {
				ptrace(PTRACE_LISTEN, pid, 0, 0);
				continue;
			}
			signal = 0;
			break;
		case 0:
			signal = WSTOPSIG(status);
			break;
		}
		ptrace(PTRACE_CONT, pid, 0, (long)signal);
	}
	fclose(log_file);
	if (wanted && done >= wanted)
		return CUT_STATUS;
	return WIFEXITED(last) ? WEXITSTATUS(last) : 128 + WTERMSIG(last);
}
