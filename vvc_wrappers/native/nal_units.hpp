// What the first bytes of the NAL units tell about a stream (Rec. ITU-T H.266, 7.3.1.2, 7.3.2.4 and 7.3.7): where
// pictures begin, where decoding can start, and what VVdeC does not say about the pictures that it leaves out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace codecprior {

class NalUnits
{
public:
  // Takes notice of the next unit, start code of three bytes included; false: it has no header.
  bool follow( const unsigned char* unit, size_t size );

  bool isPictureHeader() const { return m_type == PICTURE_HEADER; }
  bool isSlice() const { return m_type <= RASL || startsDecoding(); }   // types between them are reserved
  bool isSei() const { return m_type == PREFIX_SEI || m_type == SUFFIX_SEI; }
  bool endsSequence() const { return m_type == END_OF_SEQUENCE || m_type == END_OF_BITSTREAM; }

  int64_t pictures() const { return m_pictures; }             // coded pictures so far, the current one included
  int64_t early() const { return m_early; }                   // of these, pictures before one to start decoding at

  // Whether this is a slice or the header of a picture that comes too early. VVdeC skips such pictures, but fails where
  // their parameter sets are missing, as in a stream that was cut out of a longer one.
  bool comesEarly() const { return !m_entered && ( isSlice() || isPictureHeader() ); }

  // 4:2:2 or 4:4:4. VVdeC decodes the chroma of some such streams wrongly.
  bool hasDenseChroma() const { return m_chromaFormat >= 2; }

  // Whether a coded video sequence seems to begin here whose chroma format no parameter set before the first picture has.
  // VVdeC does not notice the change: it takes picture buffers of one format for the other.
  bool changesChromaFormat() const { return m_entered && startsDecoding() && !( m_firstFormats >> m_chromaFormat & 1 ); }

private:
  enum Type { RASL = 3, IDR_W_RADL = 7, GDR = 10, SPS = 15, PPS = 16, PICTURE_HEADER = 19, END_OF_SEQUENCE = 21, END_OF_BITSTREAM = 22, PREFIX_SEI = 23, SUFFIX_SEI = 24 };

  bool startsDecoding() const { return m_type >= IDR_W_RADL && m_type <= GDR; }

  int     m_type = END_OF_BITSTREAM;
  bool    m_headerSeen = false;                               // a picture header whose slices are still to come
  bool    m_entered = false;                                  // decoding has started since the last end of a sequence
  bool    m_spsSeen = false, m_ppsSeen = false;
  int64_t m_pictures = 0, m_early = 0;
  int     m_chromaFormat = 0, m_firstFormats = 0;             // of the last parameter set; bits of those of the first ones
  bool    m_begun = false;
};

}  // namespace codecprior
