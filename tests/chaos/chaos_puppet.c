/* A process of the chaos tests: it does what it is told, and says what happens to it.
 *
 *     chaos_puppet SAY HEAR...
 *
 * SAY is a socket that all puppets share, each message one event: "ID up PID" and "ID got SIGNAL SENDER". Puppet number
 * ID (the command is number 0) hears its orders from the ID-th pipe of HEAR, in records of ORDER bytes:
 *
 *     fork ID          a child, puppet number ID
 *     exit CODE        _exit(2)
 *     kill PID SIGNAL  kill(2)
 *     raise SIGNAL     the same, for itself
 *     setsid, setpgid GROUP, leader (of a group of its own), subreaper
 *     ignore SIGNAL, default SIGNAL
 *     catch SIGNAL     say so
 *     leave SIGNAL CODE    say so, and exit with the code
 *     reap             all children that have ended
 *     nap MICROSECONDS
 *     bomb DEPTH CODE  fork so many times, as do all children from there on; then all exit
 */

#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define ORDER 32

static int me, next, say, code_of[65];
static pid_t my_pid;
static char **hear;

/* A signal may come before a child has taken note of who it is. Signals are not blocked until then: one that waits in
 * the parent would not reach the child, but it keeps an unblocked parent from forking.
 */
static void tell(const char *what, int first, int second)
{
    char line[64];
    int id = getpid() == my_pid ? me : next;
    int size = snprintf(line, sizeof line, "%d %s %d %d", id, what, first, second);
    if (write(say, line, size) != size) {
        _exit(99);
    }
}

static void caught(int signum, siginfo_t *info, void *context)
{
    (void)context;
    tell("got", signum, info->si_pid);
    if (code_of[signum] >= 0) {
        _exit(code_of[signum]);
    }
}

static void catch(int signum, int code)
{
    struct sigaction action = {.sa_flags = SA_RESTART | SA_SIGINFO, .sa_sigaction = caught};
    sigfillset(&action.sa_mask); /* one after the other */
    code_of[signum] = code;
    sigaction(signum, &action, NULL);
}

static void start_child(int id)
{
    next = id;
    pid_t pid = fork();
    if (pid == 0) {
        me = id;
        my_pid = getpid();
        tell("up", my_pid, 0);
    } else if (pid < 0) {
        tell("refused", id, 0);
    }
}

static void bomb(int depth, int code)
{
    while (depth-- > 0) {
        fork();
    }
    _exit(code);
}

static void obey(const char *order)
{
    char verb[ORDER] = "";
    int first = 0, second = 0;
    sscanf(order, "%31s %d %d", verb, &first, &second);
    if (!strcmp(verb, "fork")) {
        start_child(first);
    } else if (!strcmp(verb, "exit")) {
        _exit(first);
    } else if (!strcmp(verb, "kill")) {
        kill(first, second);
    } else if (!strcmp(verb, "raise")) {
        kill(getpid(), first);
    } else if (!strcmp(verb, "setsid")) {
        setsid();
    } else if (!strcmp(verb, "setpgid")) {
        setpgid(0, first);
    } else if (!strcmp(verb, "leader")) {
        setpgid(0, 0);
    } else if (!strcmp(verb, "subreaper")) {
        prctl(PR_SET_CHILD_SUBREAPER, 1);
    } else if (!strcmp(verb, "ignore")) {
        signal(first, SIG_IGN);
    } else if (!strcmp(verb, "default")) {
        signal(first, SIG_DFL);
    } else if (!strcmp(verb, "catch")) {
        catch(first, -1);
    } else if (!strcmp(verb, "leave")) {
        catch(first, second);
    } else if (!strcmp(verb, "reap")) {
        while (waitpid(-1, NULL, WNOHANG) > 0) {
        }
    } else if (!strcmp(verb, "nap")) {
        usleep(first);
    } else if (!strcmp(verb, "bomb")) {
        bomb(first, second);
    }
}

int main(int count, char **words)
{
    char order[ORDER + 1] = "";
    if (count < 3) {
        return 2;
    }
    say = atoi(words[1]);
    hear = words + 2;
    prctl(PR_SET_DUMPABLE, 0);          /* no core files */
    prctl(PR_SET_NAME, "a) Z 0 1 (b"); /* for whoever reads /proc/PID/stat carelessly */
    my_pid = getpid();
    tell("up", my_pid, 0);
    while (read(atoi(hear[me]), order, ORDER) == ORDER) {
        obey(order);
    }
    return 98;
}
