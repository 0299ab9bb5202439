// A rank that talks to the others: mpi_hello [leave|hang]. Prints one line.
#include <mpi.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  int rank = 0;
  int size = 0;
  int sum = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  MPI_Allreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
  MPI_Comm node = MPI_COMM_NULL;
  MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node);
  int on_node = 0;
  MPI_Comm_size(node, &on_node);
  const char* given = std::getenv("RANK");
  std::printf("hello from rank %d (RANK %s) of %d, %d on this node, sum %d\n", rank,
              given == nullptr ? "not set" : given, size, on_node, sum);
  std::fflush(stdout);
  const char* mode = argc > 1 ? argv[1] : "";
  if (std::strcmp(mode, "leave") == 0 && rank == size - 1) _exit(9);
  if (*mode != '\0') MPI_Barrier(MPI_COMM_WORLD);
  if (std::strcmp(mode, "hang") == 0) {
    std::printf("all here\n");
    std::fflush(stdout);
    for (;;) pause();
  }
  MPI_Finalize();
  return 0;
}
