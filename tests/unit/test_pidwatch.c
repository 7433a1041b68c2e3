#include "tests/support/suite.h"
#include "tests/support/temporary.h"
#include "worker/runtime/pidwatch.h"

#include <sys/wait.h>

static gwtf_pidwatch *watch;
static size_t peer;

static pid_t begin(void) {
    pid_t child = temporary_fork();
    if (child == 0)
        for (;;)
            pause();
    return child;
}

/* Within a second; it stays a zombie until waitpid. */
static bool ends(void) {
    for (int turn = 0; turn < 1000; turn++) {
        if (gwtf_pidwatch_next(watch, &peer))
            return true;
        usleep(1000);
    }
    return false;
}

static void the_death_of_a_process_is_told_once(void) {
    CU_ASSERT_EQUAL_FATAL(gwtf_pidwatch_create(4, &watch), GWTF_OK);
    pid_t first = begin(), second = begin();
    gwtf_pidwatch_add(watch, 1, first);
    gwtf_pidwatch_add(watch, 3, second);
    CU_ASSERT(!gwtf_pidwatch_next(watch, &peer));
    kill(second, SIGSTOP);
    CU_ASSERT(!gwtf_pidwatch_next(watch, &peer));
    kill(first, SIGKILL);
    CU_ASSERT(ends());
    CU_ASSERT_EQUAL(peer, 1);
    CU_ASSERT(!gwtf_pidwatch_next(watch, &peer));
    kill(second, SIGKILL);
    CU_ASSERT(ends());
    CU_ASSERT_EQUAL(peer, 3);
    CU_ASSERT(!gwtf_pidwatch_next(watch, &peer));
    waitpid(first, NULL, 0);
    waitpid(second, NULL, 0);
    gwtf_pidwatch_destroy(watch);
}

static void what_is_no_process_of_this_program_is_not_watched(void) {
    CU_ASSERT_EQUAL_FATAL(gwtf_pidwatch_create(2, &watch), GWTF_OK);
    pid_t gone = begin(), other = temporary_fork();
    if (other == 0) {
        execlp("sleep", "sleep", "60", (char *)NULL);
        _exit(1);
    }
    usleep(200000); /* until it is another program */
    kill(gone, SIGKILL);
    waitpid(gone, NULL, 0);
    gwtf_pidwatch_add(watch, 0, gone);
    gwtf_pidwatch_add(watch, 1, other);
    kill(other, SIGKILL);
    waitpid(other, NULL, 0);
    CU_ASSERT(!gwtf_pidwatch_next(watch, &peer));
    gwtf_pidwatch_destroy(watch);
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {
        GWTF_TEST(the_death_of_a_process_is_told_once),
        GWTF_TEST(what_is_no_process_of_this_program_is_not_watched),
    };
    return gwtf_suite_main(argc, argv, "pidwatch", tests, sizeof tests / sizeof tests[0], NULL,
                           NULL);
}
