// Operators on strings.
#include "ops/text.h"

#include <re2/re2.h>
#include <unicode/locid.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>
#include <unicode/utf8.h>

#include <algorithm>
#include <memory>
#include <unordered_set>

#include "providers/cpu/support/parallel.h"
#include "providers/kernel.h"

namespace sardonyx::cpu {

namespace {

enum class Case { None, Lower, Upper };

std::string with_case(const std::string& text, Case action, const icu::Locale& locale) {
  if (action == Case::None) return text;
  icu::UnicodeString unicode = icu::UnicodeString::fromUTF8(text);
  if (action == Case::Lower)
    unicode.toLower(locale);
  else
    unicode.toUpper(locale);
  std::string result;
  return unicode.toUTF8String(result);
}

Prepared prepare_string_normalizer(PrepareContext& ctx) {
  const auto attributes = ctx.attributes<StringNormalizerAttributes>();
  const Dims& dims = ctx.dims(0);
  ctx.expect(dims.size() == 1 || (dims.size() == 2 && dims[0] == 1), "dims of the input", "[C] or [1, C]",
             to_string(dims));
  const std::string& name = attributes.case_change_action;
  ctx.expect(name == "NONE" || name == "LOWER" || name == "UPPER", "attribute 'case_change_action'",
             "NONE, LOWER or UPPER", name);
  const Case action = name == "LOWER" ? Case::Lower : name == "UPPER" ? Case::Upper : Case::None;
  const icu::Locale locale = icu::Locale::createCanonical(attributes.locale.value_or("en_US").c_str());
  ctx.expect(!locale.isBogus(), "attribute 'locale'", "a locale", attributes.locale.value_or(""));
  // Words are compared as they are, or all in lower case.
  const Case compared = attributes.is_case_sensitive ? Case::None : Case::Lower;
  std::unordered_set<std::string> stopwords;
  for (const std::string& word : attributes.stopwords.value_or(std::vector<std::string>{}))
    stopwords.insert(with_case(word, compared, locale));
  const bool row = dims.size() == 2;
  const int64_t n = ctx.input(0).size();
  return [=](RunContext& run) {
    const std::string* in = run.in<std::string>(0);
    std::vector<std::string> kept;
    for (int64_t i = 0; i < n; ++i)
      if (stopwords.empty() || !stopwords.count(with_case(in[i], compared, locale)))
        kept.push_back(with_case(in[i], action, locale));
    if (kept.empty()) kept.emplace_back();
    const int64_t count = static_cast<int64_t>(kept.size());
    Tensor& out = run.allocate(0, DType::String, row ? Dims{1, count} : Dims{count});
    std::move(kept.begin(), kept.end(), out.mutable_data<std::string>());
  };
}

Prepared prepare_string_concat(PrepareContext& ctx) {
  const Dims dims = broadcast(ctx.dims(0), ctx.dims(1));
  const int64_t n = element_count(dims);
  ctx.output(0, DType::String, dims);
  // The step of each operand along each dimension of the output; 0 where it is repeated.
  auto steps = [&](const Dims& in) {
    const Dims strides = contiguous_strides(in);
    Dims result(dims.size(), 0);
    for (size_t i = 0; i < in.size(); ++i)
      if (in[i] != 1) result[dims.size() - in.size() + i] = strides[i];
    return result;
  };
  const Dims left = steps(ctx.dims(0)), right = steps(ctx.dims(1));
  return [=](RunContext& run) {
    const std::string* x = run.in<std::string>(0);
    const std::string* y = run.in<std::string>(1);
    std::string* out = run.out<std::string>(0);
    parallel_for(n, grain_for(60), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        int64_t a = 0, b = 0;
        for (size_t d = dims.size(), rest = static_cast<size_t>(i); d-- > 0;) {
          const int64_t at = static_cast<int64_t>(rest % static_cast<size_t>(dims[d]));
          rest /= static_cast<size_t>(dims[d]);
          a += at * left[d];
          b += at * right[d];
        }
        out[i] = x[a] + y[b];
      }
    });
  };
}

// Bytes of the white space at `at`, a character that Unicode calls a space; 0 when there is none.
size_t space_at(const std::string& text, size_t at) {
  int32_t next = static_cast<int32_t>(at);
  UChar32 c;
  U8_NEXT(text.data(), next, static_cast<int32_t>(text.size()), c);
  return c >= 0 && u_isspace(c) ? static_cast<size_t>(next) - at : 0;
}

std::vector<std::string> split_at_spaces(const std::string& text, int64_t most) {
  std::vector<std::string> parts;
  size_t at = 0;
  while (true) {
    while (at < text.size()) {
      const size_t space = space_at(text, at);
      if (space == 0) break;
      at += space;
    }
    if (at == text.size()) return parts;
    if (static_cast<int64_t>(parts.size()) == most) {
      parts.push_back(text.substr(at));
      return parts;
    }
    size_t end = at;
    while (end < text.size() && space_at(text, end) == 0) ++end;
    parts.push_back(text.substr(at, end - at));
    at = end;
  }
}

std::vector<std::string> split_at(const std::string& text, const std::string& delimiter, int64_t most) {
  std::vector<std::string> parts;
  size_t at = 0;
  while (static_cast<int64_t>(parts.size()) != most) {
    const size_t end = text.find(delimiter, at);
    if (end == std::string::npos) break;
    parts.push_back(text.substr(at, end - at));
    at = end + delimiter.size();
  }
  parts.push_back(text.substr(at));
  return parts;
}

Prepared prepare_string_split(PrepareContext& ctx) {
  const auto attributes = ctx.attributes<StringSplitAttributes>();
  const std::string delimiter = attributes.delimiter.value_or("");
  const int64_t most = attributes.maxsplit.value_or(-1);
  const Dims dims = ctx.dims(0);
  const int64_t n = ctx.input(0).size();
  ctx.output(1, DType::Int64, dims);
  return [=](RunContext& run) {
    const std::string* in = run.in<std::string>(0);
    int64_t* counts = run.out<int64_t>(1);
    std::vector<std::vector<std::string>> parts(static_cast<size_t>(n));
    size_t longest = 0;
    for (size_t i = 0; i < parts.size(); ++i) {
      if (in[i].size() > INT32_MAX)
        run.fail("a string", "less than 2 GiB", std::to_string(in[i].size()) + " bytes");
      parts[i] = delimiter.empty() ? split_at_spaces(in[i], most) : split_at(in[i], delimiter, most);
      longest = std::max(longest, parts[i].size());
      if (counts) counts[i] = static_cast<int64_t>(parts[i].size());
    }
    if (!run.wants(0)) return;
    Dims out_dims = dims;
    out_dims.push_back(static_cast<int64_t>(longest));
    std::string* out = run.allocate(0, DType::String, out_dims).mutable_data<std::string>();
    for (size_t i = 0; i < parts.size(); ++i) std::move(parts[i].begin(), parts[i].end(), out + i * longest);
  };
}

Prepared prepare_regex_full_match(PrepareContext& ctx) {
  const std::string pattern = ctx.attributes<RegexFullMatchAttributes>().pattern.value_or("");
  const auto regex = std::make_shared<const RE2>(pattern, RE2::Quiet);
  ctx.expect(regex->ok(), "attribute 'pattern': " + regex->error(), "a regular expression of RE2", pattern);
  const int64_t n = ctx.input(0).size();
  ctx.output(0, DType::Bool, ctx.dims(0));
  return [regex, n](RunContext& run) {
    const std::string* in = run.in<std::string>(0);
    bool* out = run.out<bool>(0);
    parallel_for(n, grain_for(200), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) out[i] = RE2::FullMatch(in[i], *regex);
    });
  };
}

}  // namespace

void register_text(KernelRegistry& registry) {
  registry.ref("StringNormalizer", prepare_string_normalizer);
  registry.ref("StringConcat", prepare_string_concat);
  registry.ref("StringSplit", prepare_string_split);
  registry.ref("RegexFullMatch", prepare_regex_full_match);
}

}  // namespace sardonyx::cpu
