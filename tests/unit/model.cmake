# tests of model come here
