# tests of flow come here
