#include <algorithm>
#include <cmath>

#include "image.h"

namespace examples {

namespace {

constexpr int kGlyphWidth = 5, kGlyphHeight = 7, kAdvance = 6;

// clang-format off
// The printable ASCII characters from the space on: seven rows each, from the top; the five dots of a row are
// the bits of one digit 0-9A-V, the leftmost dot the highest bit.
constexpr char kFont[] =
    "0000000" "4444404" "AAA0000" "AAVAVAA" "4FKE5U4" "OP248J3" "CIK8LID" "4480000"   // space to '
    "2488842" "8422248" "04LEL40" "044V440" "0000C48" "000V000" "00000CC" "01248G0"   // ( to /
    "EHJLPHE" "4C4444E" "EH1248V" "V2421HE" "26AIV22" "VGU11HE" "68GUHHE" "V124888"   // 0 to 7
    "EHHEHHE" "EHHF12C" "0CC0CC0" "0CC0C48" "248G842" "00V0V00" "8421248" "EH12404"   // 8 to ?
    "EH1DLLE" "EHHHVHH" "UHHUHHU" "EHGGGHE" "SIHHHIS" "VGGUGGV" "VGGUGGG" "EHGNHHF"   // @ to G
    "HHHVHHH" "E44444E" "72222IC" "HIKOKIH" "GGGGGGV" "HRLLHHH" "HHPLJHH" "EHHHHHE"   // H to O
    "UHHUGGG" "EHHHLID" "UHHUKIH" "FGGE11U" "V444444" "HHHHHHE" "HHHHHA4" "HHHLLLA"   // P to W
    "HHA4AHH" "HHHA444" "V1248GV" "E88888E" "0G84210" "E22222E" "4AH0000" "000000V"   // X to _
    "8420000" "00E1FHF" "GGMPHHU" "00EGGHE" "11DJHHF" "00EHVGE" "698S888" "0FHHF1E"   // ` to g
    "GGMPHHH" "40C444E" "20622IC" "GGIKOKI" "C44444E" "00QLLHH" "00MPHHH" "00EHHHE"   // h to o
    "00UHUGG" "00DJF11" "00MPGGG" "00EGE1U" "88S8896" "00HHHJD" "00HHHA4" "00HHLLA"   // p to w
    "00HA4AH" "00HHF1E" "00V248V" "2448442" "4444444" "8442448" "008L200";            // x to ~
// clang-format on

// One character for each code point.
std::string to_ascii(const std::string& utf8) {
  std::string result;
  for (unsigned char byte : utf8) {
    if (byte >= 0x20 && byte < 0x7F)
      result += static_cast<char>(byte);
    else if (byte < 0x80 || byte >= 0xC0)
      result += '?';
  }
  return result;
}

}  // namespace

Colour colour(size_t index) {
  static constexpr Colour kColours[] = {{230, 25, 75},  {0, 130, 200},  {60, 180, 75},
                                        {245, 130, 48}, {145, 30, 180}, {0, 150, 150}};
  return kColours[index % std::size(kColours)];
}

void fill_rectangle(Image& image, double left, double top, double right, double bottom, Colour colour) {
  const int x0 = static_cast<int>(std::clamp(left, 0.0, static_cast<double>(image.width)));
  const int x1 = static_cast<int>(std::clamp(right, 0.0, static_cast<double>(image.width)));
  const int y0 = static_cast<int>(std::clamp(top, 0.0, static_cast<double>(image.height)));
  const int y1 = static_cast<int>(std::clamp(bottom, 0.0, static_cast<double>(image.height)));
  for (int y = y0; y < y1; ++y) {
    for (int x = x0; x < x1; ++x) {
      uint8_t* pixel = image.at(x, y);
      pixel[0] = colour.red;
      pixel[1] = colour.green;
      pixel[2] = colour.blue;
    }
  }
}

void draw_line(Image& image, Point from, Point to, int thickness, Colour colour) {
  const int steps = 1 + static_cast<int>(std::max(std::abs(to.x - from.x), std::abs(to.y - from.y)));
  for (int i = 0; i <= steps; ++i) {
    const double x = std::floor(from.x + (to.x - from.x) * i / steps - thickness * 0.5 + 0.5);
    const double y = std::floor(from.y + (to.y - from.y) * i / steps - thickness * 0.5 + 0.5);
    fill_rectangle(image, x, y, x + thickness, y + thickness, colour);
  }
}

int draw_text(Image& image, int x, int y, const std::string& utf8, int scale, Colour colour) {
  const std::string text = to_ascii(utf8);
  for (size_t i = 0; i < text.size(); ++i) {
    const char* glyph = kFont + (text[i] - ' ') * kGlyphHeight;
    for (int row = 0; row < kGlyphHeight; ++row) {
      const int bits = glyph[row] <= '9' ? glyph[row] - '0' : glyph[row] - 'A' + 10;
      for (int column = 0; column < kGlyphWidth; ++column) {
        if (!(bits >> (kGlyphWidth - 1 - column) & 1)) continue;
        const int left = x + (static_cast<int>(i) * kAdvance + column) * scale, top = y + row * scale;
        fill_rectangle(image, left, top, left + scale, top + scale, colour);
      }
    }
  }
  return text_width(utf8, scale);
}

int text_width(const std::string& utf8, int scale) {
  return static_cast<int>(to_ascii(utf8).size()) * kAdvance * scale;
}

void draw_outline(Image& image, const Quad& corners, size_t index, const std::string& label) {
  const int thickness = std::max(2, std::min(image.width, image.height) / 300);
  for (size_t i = 0; i < 4; ++i) draw_line(image, corners[i], corners[(i + 1) % 4], thickness, colour(index));
  const Point top = *std::min_element(corners.begin(), corners.end(),
                                      [](const Point& a, const Point& b) { return a.y < b.y; });
  const int scale = std::max(1, std::min(image.width, image.height) / 400);
  const int width = text_width(label, scale) + scale, height = (kGlyphHeight + 2) * scale;
  const int x = std::max(0, std::min(static_cast<int>(top.x), image.width - width));
  const int y = std::max(0, static_cast<int>(top.y) - height - thickness);
  fill_rectangle(image, x, y, x + width, y + height, colour(index));
  draw_text(image, x + scale, y + scale, label, scale, {255, 255, 255});
}

}  // namespace examples
