/* Reads a filter line by line, lets libseccomp make a program of it, writes the program to standard output.
 *
 *   default ACTION           the action of calls without a rule, as libseccomp numbers it
 *   badarch ACTION           that of calls of other architectures
 *   arch add|remove TOKEN
 *   rule ACTION NAME COUNT [INDEX OPERATOR VALUE SECOND]...
 *
 * Names that this libseccomp does not know are written to standard error, one a line, and left out.
 */
#include <errno.h>
#include <inttypes.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static scmp_filter_ctx filter;

static void check(int rc, const char *what, const char *name)
{
    if (rc < 0) {
        fprintf(stderr, "! %s %s: %s\n", what, name, strerror(-rc));
        exit(1);
    }
}

static void rule(uint32_t action, const char *name, unsigned int count)
{
    struct scmp_arg_cmp args[6];
    unsigned int index, op;
    uint64_t value, second;

    for (unsigned int i = 0; i < count; i++) {
        if (scanf("%u %u %" SCNu64 " %" SCNu64, &index, &op, &value, &second) != 4)
            exit(2);
        args[i] = (struct scmp_arg_cmp){ .arg = index, .op = op, .datum_a = value, .datum_b = second };
    }
    int number = seccomp_syscall_resolve_name(name);
    if (number == __NR_SCMP_ERROR) {
        fprintf(stderr, "%s\n", name);
        return;
    }
    check(seccomp_rule_add_array(filter, action, number, count, args), "rule", name);
}

int main(void)
{
    char word[16], name[64];
    uint32_t action, token;
    unsigned int count;

    while (scanf("%15s", word) == 1) {
        if (!strcmp(word, "default") && scanf("%" SCNu32, &action) == 1) {
            filter = seccomp_init(action);
            if (!filter)
                return 2;
        } else if (!strcmp(word, "badarch") && scanf("%" SCNu32, &action) == 1) {
            check(seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, action), word, "");
        } else if (!strcmp(word, "arch") && scanf("%15s %" SCNu32, word, &token) == 2) {
            if (!strcmp(word, "add") && seccomp_arch_exist(filter, token) != 0)
                check(seccomp_arch_add(filter, token), "arch add", "");
            if (!strcmp(word, "remove") && seccomp_arch_exist(filter, token) == 0)
                check(seccomp_arch_remove(filter, token), "arch remove", "");
        } else if (!strcmp(word, "rule") && scanf("%" SCNu32 " %63s %u", &action, name, &count) == 3 && count <= 6) {
            rule(action, name, count);
        } else {
            return 2;
        }
    }
    check(seccomp_export_bpf(filter, 1), "export", "");
    return 0;
}
