// A library that code.cpp loads while it runs.
extern "C" int library_function(int n) { return n + 100; }
extern "C" const char* library_text() { return "text of the library"; }
