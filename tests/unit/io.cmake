# tests of io come here
