// codecprior-probe: decodes a VVC bitstream with VVdeC and reports each picture, with its priors in shared memory.
//
//   codecprior-probe --memory-fd FD --release-fd FD [--threads N] [--wide-mv] [--frames] FILE|-
//
// Standard output carries one JSON object a line ("stream" once, "picture" for each frame in display order, "warning",
// then "end" or "error"). The parent writes a slot's number as one byte to the release descriptor when it has read it.
// Exit status: 0 decoded, 2 usage, 3 the stream is broken or cannot be decoded (the "error" event tells which).

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "nal_units.hpp"
#include "tracer.hpp"
#include "vvdec/vvdec.h"

using codecprior::emit;
using codecprior::leave;
using codecprior::quoted;

namespace {

// Cuts an Annex B byte stream (Rec. ITU-T H.266, Annex B) into NAL units, start code included.
class NalReader
{
public:
  explicit NalReader( int fd ) : m_fd( fd ) {}

  // Whether the stream begins with a start code, after any number of zero bytes, which are skipped: VVdeC takes no more
  // than one.
  bool atStartCode()
  {
    for( ;; )
    {
      const auto first = std::find_if( m_data.begin() + m_begin, m_data.begin() + m_end, []( unsigned char c ) { return c != 0; } );
      if( first != m_data.begin() + m_end )
      {
        const size_t zeros = first - m_data.begin() - m_begin;
        m_begin += zeros > 2 ? zeros - 2 : 0;
        return zeros >= 2 && *first == 1;
      }
      m_begin = std::max( m_end, m_begin + 2 ) - 2;           // two zeros may belong to the start code
      if( !fill() )
      {
        return false;
      }
    }
  }

  // Next NAL unit; valid until the next call. Size 0: end of the stream.
  std::pair<unsigned char*, size_t> next()
  {
    constexpr size_t START_CODE = 3;
    size_t           searched   = START_CODE;                 // from m_begin: the unit's own start code is no end
    for( ;; )
    {
      const size_t end = findStartCode( m_begin + searched );
      if( end != NOT_FOUND )
      {
        return take( end );
      }
      searched = std::max( m_end - m_begin, 2 * START_CODE - 1 ) - ( START_CODE - 1 );   // a code may straddle two reads
      if( m_end - m_begin > MAX_UNIT_SIZE )
      {
        leave( "bitstream", "no start code within a gibibyte" );
      }
      if( !fill() )
      {
        return take( m_end );
      }
    }
  }

  bool empty() const { return m_end == 0; }                   // before the first unit is taken
  int  error() const { return m_error; }                       // errno of a read that failed, or 0

private:
  static constexpr size_t NOT_FOUND = ~size_t( 0 );
  static constexpr size_t READ_SIZE = 1 << 20;
  static constexpr size_t MAX_UNIT_SIZE = 1 << 30;            // VVdeC counts bytes in an int

  size_t findStartCode( size_t from ) const
  {
    const unsigned char* data = m_data.data();
    while( from + 3 <= m_end )
    {
      const void* one = memchr( data + from + 2, 1, m_end - from - 2 );
      if( !one )
      {
        return NOT_FOUND;
      }
      const size_t at = static_cast<const unsigned char*>( one ) - data - 2;
      if( data[at] == 0 && data[at + 1] == 0 )
      {
        return at;
      }
      from = at + 1;
    }
    return NOT_FOUND;
  }

  std::pair<unsigned char*, size_t> take( size_t end )
  {
    unsigned char* begin = m_data.data() + m_begin;
    const size_t   size  = end - m_begin;
    m_begin = end;
    return { begin, size };
  }

  bool fill()                                                 // moves what is left to the front
  {
    m_data.erase( m_data.begin(), m_data.begin() + m_begin );
    m_end  -= m_begin;
    m_begin = 0;
    m_data.resize( m_end + READ_SIZE );
    for( ;; )
    {
      const ssize_t count = read( m_fd, m_data.data() + m_end, READ_SIZE );
      if( count < 0 && errno == EINTR )
      {
        continue;
      }
      m_error = count < 0 ? errno : m_error;
      m_end    += count > 0 ? count : 0;
      return count > 0;
    }
  }

  int                        m_fd;
  std::vector<unsigned char> m_data;
  size_t                     m_begin = 0, m_end = 0;
  int                        m_error = 0;
};

struct Arguments
{
  int                       memoryFd = -1, releaseFd = -1, threads = -1;
  codecprior::TracerOptions tracer;
  const char*               input = nullptr;
};

[[noreturn]] void usage()
{
  fprintf( stderr, "usage: codecprior-probe --memory-fd FD --release-fd FD [--threads N] [--wide-mv] [--frames] FILE|-\n"
                   "       codecprior-probe --version\n" );
  exit( 2 );
}

Arguments parse( int argc, char** argv )
{
  Arguments arguments;
  for( int i = 1; i < argc; i++ )
  {
    const std::string option = argv[i];
    auto number = [&]() { return ++i < argc ? atoi( argv[i] ) : ( usage(), 0 ); };
    if( option == "--version" )
    {
      printf( "codecprior-probe (VVdeC %s)\n", vvdec_get_version() );
      exit( 0 );
    }
    else if( option == "--memory-fd" ) arguments.memoryFd = number();
    else if( option == "--release-fd" ) arguments.releaseFd = number();
    else if( option == "--threads" ) arguments.threads = number();
    else if( option == "--wide-mv" ) arguments.tracer.wideVectors = true;
    else if( option == "--frames" ) arguments.tracer.withFrames = true;
    else if( !arguments.input && ( option == "-" || option[0] != '-' ) ) arguments.input = argv[i];
    else usage();
  }
  if( !arguments.input || arguments.memoryFd < 0 || arguments.releaseFd < 0 )
  {
    usage();
  }
  return arguments;
}

std::string lastError( vvdecDecoder* decoder, int code )
{
  std::string       message = vvdec_get_error_msg( code );
  const std::string more = vvdec_get_last_error( decoder ), detail = vvdec_get_last_additional_error( decoder );
  for( const std::string& part : { more, detail } )
  {
    if( !part.empty() )
    {
      message += ": " + part;
    }
  }
  return message;
}

[[noreturn]] void leaveWithDecoderError( vvdecDecoder* decoder, int code )
{
  leave( code == VVDEC_ERR_NOT_SUPPORTED ? "unsupported" : "bitstream", lastError( decoder, code ) );
}

void report( codecprior::Tracer& tracer, vvdecDecoder* decoder, vvdecFrame* frame )
{
  if( frame )
  {
    tracer.takeNextPicture();
    vvdec_frame_unref( decoder, frame );
  }
}

void flush( vvdecDecoder* decoder, codecprior::Tracer& tracer )
{
  for( ;; )
  {
    vvdecFrame* frame = nullptr;
    const int   code  = vvdec_flush( decoder, &frame );
    if( code != VVDEC_OK && code != VVDEC_EOF )
    {
      leaveWithDecoderError( decoder, code );
    }
    report( tracer, decoder, frame );
    if( !frame )
    {
      return;
    }
  }
}

// What VVdeC passes over in silence.
void warn( vvdecDecoder* decoder, const codecprior::NalUnits& units, const codecprior::Tracer& tracer )
{
  const auto count = []( const std::string& what, int64_t number )
  {
    if( number > 0 )
    {
      emit( "{\"event\": \"warning\", \"message\": " + quoted( what + ": " + std::to_string( number ) ) + "}" );
    }
  };
  count( "coded pictures left out, which come before a random access point", units.early() );
  count( "leading pictures left out, which refer to pictures before their random access point (RASL)",
         units.pictures() - units.early() - tracer.started() );
  count( "decoded pictures that do not match the checksums in the stream, a fault of VVdeC in some 4:2:2 and 4:4:4 streams",
         vvdec_get_hash_error_count( decoder ) );
}

void decodeUnit( vvdecDecoder* decoder, codecprior::Tracer& tracer, unsigned char* data, size_t size, int64_t picture )
{
  vvdecAccessUnit unit;
  vvdec_accessUnit_default( &unit );
  unit.payload     = data;
  unit.payloadSize = unit.payloadUsedSize = (int) size;
  unit.cts         = unit.dts = picture;                      // comes back as the picture's position in the stream
  unit.ctsValid    = unit.dtsValid = true;
  vvdecFrame* frame = nullptr;
  const int   code  = vvdec_decode( decoder, &unit, &frame );
  if( code != VVDEC_OK && code != VVDEC_TRY_AGAIN && code != VVDEC_EOF )
  {
    leaveWithDecoderError( decoder, code );
  }
  report( tracer, decoder, frame );
}

void decode( vvdecDecoder* decoder, codecprior::Tracer& tracer, NalReader& reader )
{
  if( !reader.atStartCode() && !reader.error() )
  {
    leave( "bitstream", reader.empty() ? "the stream is empty" : "no start code at the beginning: not a VVC byte stream (Annex B)" );
  }
  codecprior::NalUnits       units;
  std::vector<unsigned char> header;                          // of the next picture, in case that decoding starts there
  bool                       flushed = true;                  // VVdeC has given all pictures that it was given
  for( ;; )
  {
    const auto [data, size] = reader.next();
    if( reader.error() )
    {
      leave( "bitstream", std::string( "reading the stream failed: " ) + strerror( reader.error() ) );
    }
    if( size == 0 )
    {
      break;
    }
    if( !units.follow( data, size ) )
    {
      leave( "bitstream", "a start code without a NAL unit" );
    }
    if( units.changesChromaFormat() )
    {
      leave( "unsupported", "the chroma format changes inside the stream; a priors store holds one format" );
    }
    tracer.verifyPictures( units.hasDenseChroma() );
    if( units.comesEarly() )
    {
      header.assign( data, units.isPictureHeader() ? data + size : data );
      continue;
    }
    if( units.isSei() && !units.hasDenseChroma() )            // nothing but checksums is of use, and VVdeC may stumble
    {
      continue;
    }
    if( !header.empty() && units.isSlice() )
    {
      decodeUnit( decoder, tracer, header.data(), header.size(), units.pictures() - 1 );
      header.clear();
    }
    decodeUnit( decoder, tracer, data, size, units.pictures() - 1 );
    flushed = units.endsSequence();
    if( flushed )                                             // VVdeC would mix its pictures with those of the next one
    {
      flush( decoder, tracer );
      tracer.sequenceEnded();
    }
  }
  if( units.pictures() > 0 && units.pictures() == units.early() )
  {
    leave( "bitstream", std::to_string( units.pictures() ) + " coded pictures, but no random access point with its parameter sets to start at" );
  }
  if( !flushed )
  {
    flush( decoder, tracer );
  }
  tracer.finish();
  warn( decoder, units, tracer );
}

}  // namespace

int main( int argc, char** argv )
{
  const Arguments arguments = parse( argc, argv );
  const int       input     = strcmp( arguments.input, "-" ) == 0 ? STDIN_FILENO : open( arguments.input, O_RDONLY | O_CLOEXEC );
  if( input < 0 )
  {
    leave( "bitstream", std::string( "cannot open the file: " ) + strerror( errno ) );
  }

  vvdecParams params;
  vvdec_params_default( &params );
  params.threads            = arguments.threads;
  params.logLevel           = VVDEC_SILENT;
  params.filmGrainSynthesis = false;                          // grain is no part of what prediction refers to

  codecprior::SlotPool pool( arguments.memoryFd, arguments.releaseFd );
  codecprior::Tracer   tracer( pool, arguments.tracer );
  codecprior::install( &tracer );

  vvdecDecoder* decoder = vvdec_decoder_open( &params );
  if( !decoder )
  {
    leave( "internal", "VVdeC cannot be started on this machine" );
  }

  try
  {
    NalReader reader( input );
    decode( decoder, tracer, reader );
  }
  catch( const std::exception& error )
  {
    leave( "internal", error.what() );
  }

  if( !tracer.complete() )
  {
    leave( "internal", "VVdeC lost a picture on its way out" );
  }
  if( tracer.emitted() == 0 )
  {
    leave( "bitstream", "the stream holds no picture that can be decoded" );
  }
  emit( "{\"event\": \"end\", \"num_pictures\": " + std::to_string( tracer.emitted() ) + "}" );
  _exit( 0 );
}
