# tests of runtime come here
