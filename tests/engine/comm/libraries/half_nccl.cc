// A library that has NCCL's version and nothing else of it.
extern "C" int ncclGetVersion(int* version) {
  *version = 22809;
  return 0;
}
