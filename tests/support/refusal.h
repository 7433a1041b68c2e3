/* For tests that change one thing in a text that is right, and look at the line that refuses it. */
#ifndef GWTF_TESTS_SUPPORT_REFUSAL_H
#define GWTF_TESTS_SUPPORT_REFUSAL_H

#include <CUnit/CUnit.h>
#include <stdio.h>
#include <string.h>

/* RIGHT with the first FROM made TO. */
static inline void refusal_make(const char *right, const char *from, const char *to, char *text,
                                size_t size) {
    const char *at = strstr(right, from);
    CU_ASSERT_PTR_NOT_NULL_FATAL(at);
    snprintf(text, size, "%.*s%s%s", (int)(at - right), right, to, at + strlen(from));
}

/* GOT is one line that has EXPECTED in it. */
static inline void refusal_expect(const char *got, const char *expected) {
    if (strstr(got, expected) != NULL && strchr(got, '\n') == NULL)
        return;
    printf("\n    got:      %s\n    expected: %s\n", got, expected);
    CU_FAIL("another message");
}

#endif
