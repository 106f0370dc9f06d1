// The main function of every Catch2 test, compiled once per config.

#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>
#include <cstdio>

int main(int argc, char** argv) {
  Catch::Session session;
  if (const int error = session.applyCommandLine(argc, argv); error != 0) return error;
  // Catch2 2.13 calls this a success, even with `-w NoTests`. It happens if a linker drops a file.
  if (Catch::getAllTestCasesSorted(session.config()).empty()) {
    std::fputs("FAILED: there is no test case in this binary\n", stderr);
    return 1;
  }
  return session.run();
}
