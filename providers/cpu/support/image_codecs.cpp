// The image formats that libraries decode. Each is there when CMake found its library.
#include <algorithm>
#include <csetjmp>
#include <cstdio>
#include <cstring>
#include <memory>

#include "providers/cpu/support/image.h"
#include "sardonyx/error.h"

#ifdef SARDONYX_HAS_JPEG
#include <jpeglib.h>

#include <jerror.h>
#endif
#ifdef SARDONYX_HAS_PNG
#include <png.h>
#endif
#ifdef SARDONYX_HAS_WEBP
#include <webp/decode.h>
#endif
#ifdef SARDONYX_HAS_TIFF
#include <tiffio.h>
#endif
#ifdef SARDONYX_HAS_OPENJPEG
#include <openjpeg.h>
#endif

namespace sardonyx::cpu {
namespace {

[[noreturn, maybe_unused]] void missing(const char* format) {
  throw UnsupportedError(std::string(format) + " images: this build was made without the library");
}

}  // namespace

#ifdef SARDONYX_HAS_JPEG
namespace {

struct JpegError {
  jpeg_error_mgr base;
  jmp_buf jump;
  char message[JMSG_LENGTH_MAX];
  bool damaged = false;
};

// Everything between setjmp and longjmp: no object with a destructor lives in here. False on an error.
bool read_jpeg(jpeg_decompress_struct& jpeg, JpegError& error, Bytes bytes, Pixels& out) {
  if (setjmp(error.jump)) return false;
  jpeg_mem_src(&jpeg, bytes.data(), static_cast<unsigned long>(bytes.size()));
  jpeg_read_header(&jpeg, TRUE);
  const bool four = jpeg.jpeg_color_space == JCS_CMYK || jpeg.jpeg_color_space == JCS_YCCK;
  jpeg.out_color_space = four ? JCS_CMYK : JCS_RGB;
  // An allocation that fails throws through no frame of the library.
  out.resize(jpeg.image_width, jpeg.image_height, bytes.size());
  jpeg_start_decompress(&jpeg);
  if (!four) {
    while (jpeg.output_scanline < jpeg.output_height) {
      JSAMPROW row =
          out.rgb.data() + static_cast<size_t>(jpeg.output_scanline) * static_cast<size_t>(out.width) * 3;
      jpeg_read_scanlines(&jpeg, &row, 1);
    }
  } else {
    JSAMPARRAY line = (*jpeg.mem->alloc_sarray)(reinterpret_cast<j_common_ptr>(&jpeg), JPOOL_IMAGE,
                                                jpeg.output_width * 4, 1);
    for (uint8_t* to = out.rgb.data(); jpeg.output_scanline < jpeg.output_height;) {
      jpeg_read_scanlines(&jpeg, line, 1);
      // Adobe writes inks inverted: 255 is none.
      for (JDIMENSION x = 0; x < jpeg.output_width; ++x, to += 3)
        for (int c = 0; c < 3; ++c) {
          const unsigned ink = line[0][x * 4 + static_cast<unsigned>(c)], black = line[0][x * 4 + 3];
          to[c] = static_cast<uint8_t>(jpeg.saw_Adobe_marker ? ink * black / 255
                                                             : (255 - ink) * (255 - black) / 255);
        }
    }
  }
  jpeg_finish_decompress(&jpeg);
  return true;
}

}  // namespace

Pixels decode_jpeg(Bytes bytes) {
  Pixels out;
  jpeg_decompress_struct jpeg;
  JpegError error;
  jpeg.err = jpeg_std_error(&error.base);
  error.base.error_exit = [](j_common_ptr info) {
    auto* self = reinterpret_cast<JpegError*>(info->err);
    info->err->format_message(info, self->message);
    longjmp(self->jump, 1);
  };
  error.base.output_message = [](j_common_ptr) {};
  error.base.emit_message = [](j_common_ptr info, int) {
    const int code = info->err->msg_code;
    if (code == JWRN_JPEG_EOF || code == JWRN_HIT_MARKER || code == JWRN_HUFF_BAD_CODE)
      reinterpret_cast<JpegError*>(info->err)->damaged = true;
  };
  jpeg_create_decompress(&jpeg);
  bool ok = false;
  std::exception_ptr failure;
  try {
    ok = read_jpeg(jpeg, error, bytes, out);
  } catch (...) {
    failure = std::current_exception();
  }
  jpeg_destroy_decompress(&jpeg);
  if (failure) std::rethrow_exception(failure);
  if (!ok) image_error("JPEG", error.message);
  if (error.damaged) image_error("JPEG", "the data is damaged or ends early");
  return out;
}
#else
Pixels decode_jpeg(Bytes) { missing("JPEG"); }
#endif

#ifdef SARDONYX_HAS_PNG
namespace {

struct PngState {
  Bytes bytes;
  size_t at = 0;
  char message[256] = "the data is damaged";
};

// As read_jpeg; `rows` is the caller's.
bool read_png(png_structp png, png_infop info, PngState& state, Pixels& out, std::vector<png_bytep>& rows) {
  if (setjmp(png_jmpbuf(png))) return false;
  png_set_read_fn(png, &state, [](png_structp p, png_bytep to, size_t n) {
    auto* s = static_cast<PngState*>(png_get_io_ptr(p));
    if (n > s->bytes.size() - s->at) png_error(p, "the file ends early");
    std::memcpy(to, s->bytes.data() + s->at, n);
    s->at += n;
  });
  png_read_info(png, info);
  out.resize(png_get_image_width(png, info), png_get_image_height(png, info), state.bytes.size());
  if (png_get_color_type(png, info) == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(png);
  if (png_get_bit_depth(png, info) < 8) png_set_expand_gray_1_2_4_to_8(png);
  png_set_scale_16(png);
  png_set_gray_to_rgb(png);
  png_set_strip_alpha(png);
  png_set_interlace_handling(png);
  png_read_update_info(png, info);
  if (png_get_rowbytes(png, info) != static_cast<size_t>(out.width) * 3)
    png_error(png, "an unknown pixel layout");
  rows.resize(static_cast<size_t>(out.height));
  for (size_t y = 0; y < rows.size(); ++y) rows[y] = out.rgb.data() + y * static_cast<size_t>(out.width) * 3;
  png_read_image(png, rows.data());
  png_read_end(png, nullptr);
  return true;
}

}  // namespace

Pixels decode_png(Bytes bytes) {
  Pixels out;
  PngState state{bytes};
  std::vector<png_bytep> rows;
  png_structp png = png_create_read_struct(
      PNG_LIBPNG_VER_STRING, &state,
      [](png_structp p, png_const_charp why) {
        auto* s = static_cast<PngState*>(png_get_error_ptr(p));
        std::snprintf(s->message, sizeof s->message, "%s", why);
        png_longjmp(p, 1);
      },
      [](png_structp, png_const_charp) {});
  png_infop info = png ? png_create_info_struct(png) : nullptr;
  bool ok = false;
  std::exception_ptr failure;
  try {
    ok = info && read_png(png, info, state, out, rows);
  } catch (...) {
    failure = std::current_exception();
  }
  png_destroy_read_struct(&png, &info, nullptr);
  if (failure) std::rethrow_exception(failure);
  if (!ok) image_error("PNG", state.message);
  return out;
}
#else
Pixels decode_png(Bytes) { missing("PNG"); }
#endif

#ifdef SARDONYX_HAS_WEBP
Pixels decode_webp(Bytes bytes) {
  WebPBitstreamFeatures features;
  if (WebPGetFeatures(bytes.data(), bytes.size(), &features) != VP8_STATUS_OK)
    image_error("WebP", "the header is damaged");
  if (features.has_animation) image_error("WebP", "an animation has no one picture");
  Pixels out;
  out.resize(features.width, features.height, bytes.size());
  if (!WebPDecodeRGBInto(bytes.data(), bytes.size(), out.rgb.data(), out.rgb.size(), features.width * 3))
    image_error("WebP", "the data is damaged");
  return out;
}
#else
Pixels decode_webp(Bytes) { missing("WebP"); }
#endif

#ifdef SARDONYX_HAS_TIFF
namespace {

struct TiffState {
  Bytes bytes;
  uint64_t at = 0;
  std::string message = "the data is damaged";
};

TiffState& tiff_state(thandle_t handle) { return *static_cast<TiffState*>(handle); }

}  // namespace

Pixels decode_tiff(Bytes bytes) {
  TiffState state{bytes};
  std::unique_ptr<TIFFOpenOptions, void (*)(TIFFOpenOptions*)> options(TIFFOpenOptionsAlloc(),
                                                                       TIFFOpenOptionsFree);
  // The library prints errors unless it is given a place for them; 1 means that they were taken.
  TIFFOpenOptionsSetErrorHandlerExtR(
      options.get(),
      [](TIFF*, void* user, const char*, const char* format, va_list arguments) {
        char text[256];
        std::vsnprintf(text, sizeof text, format, arguments);
        static_cast<TiffState*>(user)->message = text;
        return 1;
      },
      &state);
  TIFFOpenOptionsSetWarningHandlerExtR(
      options.get(), [](TIFF*, void*, const char*, const char*, va_list) { return 1; }, nullptr);
  TIFFOpenOptionsSetMaxSingleMemAlloc(options.get(), tmsize_t{1} << 30);
  std::unique_ptr<TIFF, void (*)(TIFF*)> tiff(
      TIFFClientOpenExt(
          "memory", "rm", &state,
          [](thandle_t h, void* to, tmsize_t n) -> tmsize_t {
            TiffState& s = tiff_state(h);
            if (s.at >= s.bytes.size()) return 0;
            const size_t have = std::min<size_t>(static_cast<size_t>(n), s.bytes.size() - s.at);
            std::memcpy(to, s.bytes.data() + s.at, have);
            s.at += have;
            return static_cast<tmsize_t>(have);
          },
          [](thandle_t, void*, tmsize_t) -> tmsize_t { return 0; },
          [](thandle_t h, toff_t offset, int whence) -> toff_t {
            TiffState& s = tiff_state(h);
            s.at = offset + (whence == SEEK_CUR ? s.at : whence == SEEK_END ? s.bytes.size() : 0);
            return s.at;
          },
          [](thandle_t) { return 0; }, [](thandle_t h) -> toff_t { return tiff_state(h).bytes.size(); },
          [](thandle_t, void**, toff_t*) { return 0; }, [](thandle_t, void*, toff_t) {}, options.get()),
      TIFFClose);
  if (!tiff) image_error("TIFF", state.message);
  uint32_t width = 0, height = 0;
  TIFFGetField(tiff.get(), TIFFTAG_IMAGEWIDTH, &width);
  TIFFGetField(tiff.get(), TIFFTAG_IMAGELENGTH, &height);
  Pixels out;
  out.resize(width, height, bytes.size());
  std::vector<uint32_t> raster(static_cast<size_t>(width) * height);
  if (!TIFFReadRGBAImageOriented(tiff.get(), width, height, raster.data(), ORIENTATION_TOPLEFT, 1))
    image_error("TIFF", state.message);
  for (size_t i = 0; i < raster.size(); ++i) {
    out.rgb[i * 3] = static_cast<uint8_t>(TIFFGetR(raster[i]));
    out.rgb[i * 3 + 1] = static_cast<uint8_t>(TIFFGetG(raster[i]));
    out.rgb[i * 3 + 2] = static_cast<uint8_t>(TIFFGetB(raster[i]));
  }
  return out;
}
#else
Pixels decode_tiff(Bytes) { missing("TIFF"); }
#endif

#ifdef SARDONYX_HAS_OPENJPEG
namespace {

struct Jp2State {
  Bytes bytes;
  size_t at = 0;
  std::string message = "the data is damaged";
};

// A sample of a component at a pixel of the picture, scaled to 8 bits.
int jp2_sample(const opj_image_comp_t& c, int64_t x, int64_t y) {
  const int64_t column = std::min<int64_t>(x / c.dx, static_cast<int64_t>(c.w) - 1),
                row = std::min<int64_t>(y / c.dy, static_cast<int64_t>(c.h) - 1);
  const int64_t value =
      c.data[row * static_cast<int64_t>(c.w) + column] + (c.sgnd ? int64_t{1} << (c.prec - 1) : 0);
  const int64_t scaled = c.prec > 8    ? value >> (c.prec - 8)
                         : c.prec == 8 ? value
                                       : value * 255 / ((int64_t{1} << c.prec) - 1);
  return static_cast<int>(std::clamp<int64_t>(scaled, 0, 255));
}

}  // namespace

Pixels decode_jpeg2000(Bytes bytes) {
  Jp2State state{bytes};
  std::unique_ptr<opj_codec_t, void (*)(opj_codec_t*)> codec(
      opj_create_decompress(bytes[0] == 0xff ? OPJ_CODEC_J2K : OPJ_CODEC_JP2), opj_destroy_codec);
  opj_set_error_handler(
      codec.get(),
      [](const char* why, void* user) {
        std::string text = why;
        while (!text.empty() && text.back() == '\n') text.pop_back();
        static_cast<Jp2State*>(user)->message = text;
      },
      &state);
  opj_dparameters_t parameters;
  opj_set_default_decoder_parameters(&parameters);
  if (!opj_setup_decoder(codec.get(), &parameters)) image_error("JPEG 2000", state.message);
  opj_decoder_set_strict_mode(codec.get(), OPJ_TRUE);
  std::unique_ptr<opj_stream_t, void (*)(opj_stream_t*)> stream(
      opj_stream_create(1 << 16, OPJ_TRUE), [](opj_stream_t* s) { opj_stream_destroy(s); });
  opj_stream_set_user_data(stream.get(), &state, [](void*) {});
  opj_stream_set_user_data_length(stream.get(), bytes.size());
  opj_stream_set_read_function(stream.get(), [](void* to, OPJ_SIZE_T n, void* user) -> OPJ_SIZE_T {
    auto* s = static_cast<Jp2State*>(user);
    const size_t have = std::min<size_t>(n, s->bytes.size() - s->at);
    if (have == 0) return static_cast<OPJ_SIZE_T>(-1);
    std::memcpy(to, s->bytes.data() + s->at, have);
    s->at += have;
    return have;
  });
  opj_stream_set_skip_function(stream.get(), [](OPJ_OFF_T n, void* user) -> OPJ_OFF_T {
    auto* s = static_cast<Jp2State*>(user);
    if (n < 0) return -1;
    const size_t have = std::min<size_t>(static_cast<size_t>(n), s->bytes.size() - s->at);
    s->at += have;
    return static_cast<OPJ_OFF_T>(have);
  });
  opj_stream_set_seek_function(stream.get(), [](OPJ_OFF_T n, void* user) -> OPJ_BOOL {
    auto* s = static_cast<Jp2State*>(user);
    if (n < 0 || static_cast<size_t>(n) > s->bytes.size()) return OPJ_FALSE;
    s->at = static_cast<size_t>(n);
    return OPJ_TRUE;
  });
  opj_image_t* raw = nullptr;
  const bool header = opj_read_header(stream.get(), codec.get(), &raw);
  const std::unique_ptr<opj_image_t, void (*)(opj_image_t*)> image(raw, opj_image_destroy);
  if (!header || !image) image_error("JPEG 2000", state.message);
  Pixels out;
  out.resize(static_cast<int64_t>(image->x1) - image->x0, static_cast<int64_t>(image->y1) - image->y0,
             bytes.size());
  if (!opj_decode(codec.get(), stream.get(), image.get()) || !opj_end_decompress(codec.get(), stream.get()))
    image_error("JPEG 2000", state.message);
  const uint32_t count = image->numcomps;
  for (uint32_t c = 0; c < count; ++c) {
    const opj_image_comp_t& p = image->comps[c];
    if (!p.data || p.w == 0 || p.h == 0 || p.dx == 0 || p.dy == 0 || p.prec == 0 || p.prec > 31)
      image_error("JPEG 2000", "a component without samples");
  }
  if (count == 0) image_error("JPEG 2000", "no components");
  const bool colour = count >= 3;
  const bool ycc = colour && image->color_space == OPJ_CLRSPC_SYCC;
  uint8_t* to = out.rgb.data();
  for (int64_t y = 0; y < out.height; ++y) {
    for (int64_t x = 0; x < out.width; ++x, to += 3) {
      int v[3];
      for (uint32_t c = 0; c < 3; ++c) v[c] = jp2_sample(image->comps[colour ? c : 0], x, y);
      if (ycc) {
        const double luma = v[0], cb = v[1] - 128, cr = v[2] - 128;
        const double rgb[3] = {luma + 1.402 * cr, luma - 0.344136 * cb - 0.714136 * cr, luma + 1.772 * cb};
        for (int c = 0; c < 3; ++c) v[c] = static_cast<int>(std::clamp(rgb[c] + 0.5, 0.0, 255.0));
      }
      for (int c = 0; c < 3; ++c) to[c] = static_cast<uint8_t>(v[c]);
    }
  }
  return out;
}
#else
Pixels decode_jpeg2000(Bytes) { missing("JPEG 2000"); }
#endif

}  // namespace sardonyx::cpu
