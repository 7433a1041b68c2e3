# tests of protocol come here
