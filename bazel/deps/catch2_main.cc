// The main function of every Catch2 test, compiled once per config.

#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
