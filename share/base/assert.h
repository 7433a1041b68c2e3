/* Assertions for bugs, always on. Input from files, users and peers never reaches one: it gets a
 * status and a message. */
#ifndef GWTF_SHARE_BASE_ASSERT_H
#define GWTF_SHARE_BASE_ASSERT_H

/* Prints "gwtf: bug: FILE:LINE: CONDITION: please report it" to stderr and aborts. */
_Noreturn void gwtf_assert_failed(const char *condition, const char *file, int line);

#define GWTF_ASSERT(condition)                                                                     \
    ((condition) ? (void)0 : gwtf_assert_failed(#condition, __FILE__, __LINE__))

#endif
