/* The process that holds namespaces open: the sandbox of a pod, and the whole test cluster's first process.
 *
 * As process 1 of a PID namespace it must reap what is left to it, and when it is gone the kernel ends all others. */
#include <signal.h>
#include <stddef.h>
#include <sys/wait.h>
#include <unistd.h>

static void stop(int number) {
  (void)number;
  _exit(0);
}

static void reap(int number) {
  (void)number;
  while (waitpid(-1, NULL, WNOHANG) > 0) {
  }
}

int main(void) {
  struct sigaction action = {.sa_handler = reap, .sa_flags = SA_NOCLDSTOP | SA_RESTART};
  sigaction(SIGCHLD, &action, NULL);
  signal(SIGTERM, stop);
  signal(SIGINT, stop);
  for (;;) {
    pause();
  }
}
