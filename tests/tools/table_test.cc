#include "tools/table.h"

#include <gtest/gtest.h>

namespace strata::tools {
namespace {

TEST(TableTest, AlignsColumnsUnderTheirHeadersAndEndsWithTotals) {
  Table table({{"purpose"}, {"device", Align::kRight}, {"host", Align::kRight}});
  table.AddRow({"weights", "128 MiB", "1.50 GiB"});
  table.AddRow({"saved activations", "9 MiB", ""});
  table.SetTotals({"total", "137 MiB", "1.50 GiB"});
  EXPECT_EQ(table.ToString(),
            "purpose             device      host\n"
            "-----------------  -------  --------\n"
            "weights            128 MiB  1.50 GiB\n"
            "saved activations    9 MiB\n"
            "-----------------  -------  --------\n"
            "total              137 MiB  1.50 GiB\n");
}

TEST(TableTest, WithoutRowsShowsItsHeaders) {
  EXPECT_EQ(Table({{"lane"}, {"busy", Align::kRight}}).ToString(),
            "lane  busy\n"
            "----  ----\n");
}

TEST(TableTest, LettersOfSeveralBytesTakeOneColumn) {
  Table table({{"Größe"}, {"n", Align::kRight}});
  table.AddRow({"µ", "1"});
  EXPECT_EQ(table.ToString(),
            "Größe  n\n"
            "-----  -\n"
            "µ      1\n");
}

}  // namespace
}  // namespace strata::tools
