#include "nal_units.hpp"

namespace codecprior {

bool NalUnits::follow( const unsigned char* unit, size_t size )
{
  constexpr size_t TYPE = 4, PAYLOAD = 5;                     // behind the start code and the layer id
  if( size < PAYLOAD )
  {
    return false;
  }
  m_type = unit[TYPE] >> 3;
  m_spsSeen |= m_type == SPS;
  m_ppsSeen |= m_type == PPS;
  m_entered &= !endsSequence();
  if( m_type == SPS && size > PAYLOAD + 1 )
  {
    m_chromaFormat = unit[PAYLOAD + 1] >> 3 & 3;              // after two ids and the number of sublayers
    m_firstFormats |= m_begun ? 0 : 1 << m_chromaFormat;
  }
  else if( m_type == PICTURE_HEADER )
  {
    m_headerSeen = true;
  }
  else if( isSlice() && size > PAYLOAD )
  {
    const bool begins = m_headerSeen || unit[PAYLOAD] & 0x80; // the slice header holds the picture header
    m_headerSeen = false;
    m_entered |= startsDecoding() && m_spsSeen && m_ppsSeen;
    m_begun |= m_entered;
    m_pictures += begins;
    m_early    += begins && !m_entered;
  }
  return true;
}

}  // namespace codecprior
