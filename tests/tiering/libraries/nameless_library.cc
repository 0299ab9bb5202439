// A library that does not say its version.
extern "C" int Nothing() { return 0; }
