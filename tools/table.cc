#include "tools/table.h"

#include <algorithm>
#include <span>

#include "aio/base/check.h"
#include "tools/terminal.h"

namespace strata::tools {
namespace {

constexpr std::string_view kGap = "  ";

std::string Line(std::span<const Column> columns, std::span<const size_t> widths,
                 const Table::Row& cells) {
  std::string line;
  for (size_t i = 0; i < columns.size(); ++i) {
    std::string padding(widths[i] - DisplayWidth(cells[i]), ' ');
    if (i > 0) line += kGap;
    line += columns[i].align == Align::kRight ? padding + cells[i] : cells[i] + padding;
  }
  return line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
}

}  // namespace

void Table::AddRow(Row cells) {
  STRATA_CHECK(cells.size() == columns_.size());
  rows_.push_back(std::move(cells));
}

void Table::SetTotals(Row cells) {
  STRATA_CHECK(cells.size() == columns_.size());
  totals_ = std::move(cells);
}

std::vector<size_t> Table::Widths() const {
  std::vector<size_t> widths;
  for (size_t i = 0; i < columns_.size(); ++i) {
    size_t width = DisplayWidth(columns_[i].header);
    for (const Row& row : rows_) width = std::max(width, DisplayWidth(row[i]));
    if (totals_) width = std::max(width, DisplayWidth((*totals_)[i]));
    widths.push_back(width);
  }
  return widths;
}

std::string Table::ToString() const {
  std::vector<size_t> widths = Widths();
  Row headers, rule;
  for (size_t i = 0; i < columns_.size(); ++i) {
    headers.push_back(columns_[i].header);
    rule.push_back(std::string(widths[i], '-'));
  }
  std::string text = Line(columns_, widths, headers) + Line(columns_, widths, rule);
  for (const Row& row : rows_) text += Line(columns_, widths, row);
  if (totals_) text += Line(columns_, widths, rule) + Line(columns_, widths, *totals_);
  return text;
}

}  // namespace strata::tools
