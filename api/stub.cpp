// Until onnx_import/export.cpp lands.
#include "onnx_import/export.h"
namespace sardonyx {
std::string export_bytes(const Model&, const ExportOptions&) { throw UnsupportedError("export"); }
void export_file(const Model&, const std::string&, const ExportOptions&) { throw UnsupportedError("export"); }
std::string export_value(const Value&, const std::string&) { throw UnsupportedError("export"); }
}  // namespace sardonyx
