// Tables in plain text, aligned for a fixed-width font.
//
//   purpose   planned  measured
//   --------  -------  --------
//   weights   128 MiB   128 MiB
//   --------  -------  --------
//   total     128 MiB   128 MiB
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace strata::tools {

enum class Align { kLeft, kRight };

struct Column {
  std::string header;
  Align align = Align::kLeft;
};

class Table {
 public:
  using Row = std::vector<std::string>;  // one cell per column

  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  void AddRow(Row cells);
  // Stands last, under a rule of its own.
  void SetTotals(Row cells);

  // Lines that end with a newline and have no spaces before it.
  std::string ToString() const;

 private:
  std::vector<size_t> Widths() const;

  std::vector<Column> columns_;
  std::vector<Row> rows_;
  std::optional<Row> totals_;
};

}  // namespace strata::tools
