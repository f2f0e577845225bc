#include "tracer.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <limits>

#include "CodingStructure.h"
#include "DecCu.h"
#include "DecLib.h"
#include "DecLibRecon.h"
#include "Picture.h"
#include "Slice.h"
#include "UnitTools.h"

using namespace vvdec;

namespace codecprior {

static Tracer* g_tracer = nullptr;

void install( Tracer* tracer ) { g_tracer = tracer; }

// --------------------------------------------------------------------------------------------------------------------
// events
// --------------------------------------------------------------------------------------------------------------------

void emit( const std::string& line )
{
  const std::string text = line + "\n";
  for( size_t done = 0; done < text.size(); )
  {
    const ssize_t count = write( STDOUT_FILENO, text.data() + done, text.size() - done );
    if( count < 0 && errno != EINTR )
    {
      _exit( 0 );                                             // the parent is gone
    }
    done += std::max<ssize_t>( count, 0 );
  }
}

std::string quoted( const std::string& text )
{
  std::string out = "\"";
  for( unsigned char c : text )
  {
    if( c == '"' || c == '\\' )
    {
      out += '\\';
      out += c;
    }
    else
    {
      out += c < 0x20 || c > 0x7e ? ' ' : c;
    }
  }
  return out + '"';
}

void leave( const std::string& kind, const std::string& message )
{
  emit( "{\"event\": \"error\", \"kind\": " + quoted( kind ) + ", \"message\": " + quoted( message ) + "}" );
  _exit( 3 );
}

static Geometry geometryOf( const Picture& picture )
{
  const SPS&    sps    = *picture.cs->sps;
  const PPS&    pps    = *picture.cs->pps;
  const Window& window = pps.getConformanceWindowPresentFlag() ? pps.getConformanceWindow() : sps.getConformanceWindow();
  const int     unitX  = SPS::getWinUnitX( sps.getChromaFormatIdc() ), unitY = SPS::getWinUnitY( sps.getChromaFormatIdc() );
  Geometry g;
  g.width        = pps.getPicWidthInLumaSamples();
  g.height       = pps.getPicHeightInLumaSamples();
  g.left         = window.getWindowLeftOffset() * unitX;
  g.right        = window.getWindowRightOffset() * unitX;
  g.top          = window.getWindowTopOffset() * unitY;
  g.bottom       = window.getWindowBottomOffset() * unitY;
  g.bitDepth     = sps.getBitDepth();
  g.chromaFormat = (int) sps.getChromaFormatIdc();
  return g;
}

static std::string described( const Geometry& g )
{
  char text[128];
  snprintf( text, sizeof( text ), "%dx%d cropped to %dx%d, %d bit", g.width, g.height, g.width - g.left - g.right,
            g.height - g.top - g.bottom, g.bitDepth );
  return text;
}

// Position in the bitstream. VVdeC's own number leaves out pictures that it skips.
static int codedOrder( const Picture& picture ) { return (int) picture.getCts(); }

void Tracer::announceStream( const Picture& picture )
{
  const Geometry& g    = m_pool.geometry();
  const SPS&      sps  = *picture.cs->sps;
  char            buffer[512];
  snprintf( buffer, sizeof( buffer ),
            "{\"event\": \"stream\", \"coded_size\": [%d, %d], \"conformance_window\": [%d, %d, %d, %d], \"bit_depth\": %d, "
            "\"chroma_format_idc\": %d, \"slot_bytes\": %zu, ",
            g.width, g.height, g.left, g.right, g.top, g.bottom, g.bitDepth, g.chromaFormat, m_pool.slotBytes() );
  std::string line = buffer;

  const GeneralHrdParams* timing = sps.getGeneralHrdParameters();
  if( timing && timing->getNumUnitsInTick() > 0 && timing->getTimeScale() > 0 )
  {
    const auto&    layers      = sps.getOlsHrdParameters();   // each temporal sublayer adds pictures; the last has all
    const uint32_t ticksPerPic = !layers.empty() && layers.back().getFixedPicRateWithinCvsFlag() ? layers.back().getElementDurationInTcMinus1() + 1 : 1;
    snprintf( buffer, sizeof( buffer ), "\"frame_rate\": [%u, %llu], ", timing->getTimeScale(),
              (unsigned long long) timing->getNumUnitsInTick() * ticksPerPic );
    line += buffer;
  }

  line += "\"arrays\": {";
  for( const ArrayLayout& array : m_pool.layout() )
  {
    snprintf( buffer, sizeof( buffer ), "%s\"%s\": {\"dtype\": \"%s\", \"offset\": %zu, \"shape\": [%d, %d%s]}",
              &array == &m_pool.layout().front() ? "" : ", ", array.name.c_str(), array.dtype.c_str(), array.offset,
              array.rows, array.cols, array.components == 2 ? ", 2" : "" );
    line += buffer;
  }
  emit( line + "}}" );
}

// --------------------------------------------------------------------------------------------------------------------
// pictures
// --------------------------------------------------------------------------------------------------------------------

void Tracer::pictureStarts( Picture& picture )
{
  try
  {
    m_pictures.insert( &picture );
    attachSlot( picture );
    m_started++;
  }
  catch( const std::exception& error )                        // VVdeC would take it for an error of the stream
  {
    leave( "internal", error.what() );
  }
}

std::vector<Picture*> Tracer::pendingPictures() const
{
  std::vector<Picture*> pending;
  std::copy_if( m_pictures.begin(), m_pictures.end(), std::back_inserter( pending ), []( const Picture* picture ) { return picture->neededForOutput; } );
  return pending;
}

// Which pictures wait for output when VVdeC reads that they shall be dropped depends on its threads. It has to output them
// all, and closeSequence() drops those that the standard drops.
void Tracer::dropPriorPictures( const std::vector<Picture*>& pending, const Picture& picture )
{
  m_cuts.insert( codedOrder( picture ) );
  for( Picture* prior : pending )
  {
    prior->neededForOutput |= !prior->lockedByApplication;
  }
}

void Tracer::sequenceEnded()
{
  for( Picture* picture : m_pictures )
  {
    picture->dpbReferenceMark = Picture::unreferenced;
  }
}

// Whether the slices cover each CTU of the picture once. VVdeC waits for the missing ones, for ever.
static bool isWhole( const Picture& picture )
{
  std::vector<bool> covered( picture.cs->pcv->sizeInCtus );
  size_t            count = 0;
  for( const Slice* slice : picture.slices )
  {
    for( unsigned i = 0; i < slice->getNumCtuInSlice(); i++, count++ )
    {
      const unsigned address = slice->getCtuAddrInSlice( i );
      if( address >= covered.size() || covered[address] )
      {
        return false;
      }
      covered[address] = true;
    }
  }
  return count == covered.size();
}

void Tracer::attachSlot( const Picture& picture )
{
  if( !isWhole( picture ) )
  {
    leave( "bitstream", "a picture lacks slices, at POC " + std::to_string( picture.getPOC() ) );
  }
  const Geometry geometry = geometryOf( picture );
  if( !m_pool.configured() )
  {
    m_pool.configure( geometry, m_options.wideVectors, m_options.withFrames );
    announceStream( picture );
  }
  else if( !( geometry == m_pool.geometry() ) )
  {
    leave( "unsupported", "the picture format changes inside the stream (from " + described( m_pool.geometry() ) + " to "
                            + described( geometry ) + " at POC " + std::to_string( picture.getPOC() )
                            + "); a priors store holds one format" );
  }
  if( picture.isCLVSS() )
  {
    const int order = codedOrder( picture );                  // with threads, pictures start in another order
    m_sequenceStarts.insert( std::upper_bound( m_sequenceStarts.begin(), m_sequenceStarts.end(), order ), order );
  }

  const int previous = m_pool.find( &picture );               // the Picture object of one that was never output
  if( previous >= 0 )
  {
    m_pool.discard( previous );
  }
  Slot& slot = m_pool[m_pool.acquire( &picture )];

  bool mapping = false;
  slot.pictureType = 0;
  for( const Slice* slice : picture.slices )
  {
    mapping |= slice->getLmcsEnabledFlag();
    slot.pictureType = std::max( slot.pictureType, slice->isInterB() ? 2 : slice->isInterP() ? 1 : 0 );
  }
  const PicHeader& header = *picture.cs->picHeader;
  mapping &= header.getLmcsEnabledFlag();
  slot.lmcs    = mapping ? 1 | ( header.getLmcsChromaResidualScaleFlag() ? 2 : 0 ) : 0;
  slot.sliceQp = picture.slices.front()->getSliceQp();
}

int Tracer::sequenceNumber( int decodeOrder ) const
{
  const auto after = std::upper_bound( m_sequenceStarts.begin(), m_sequenceStarts.end(), decodeOrder );
  return std::max( int( after - m_sequenceStarts.begin() ) - 1, 0 );
}

template<typename T>
static void copyPlane( const CPelBuf& source, T* target )
{
  for( int y = 0; y < (int) source.height; y++, target += source.width )
  {
    std::copy_n( source.bufAt( 0, y ), source.width, target );
  }
}

void Tracer::copyFrame( const Picture& picture, int slot )
{
  for( int c = 0; c < m_pool.geometry().planes(); c++ )
  {
    const CPelBuf plane = picture.getRecoBuf( ComponentID( c ) );
    if( m_pool.geometry().bitDepth > 8 )
    {
      copyPlane( plane, m_pool.array<uint16_t>( slot, FRAME + c ) );
    }
    else
    {
      copyPlane( plane, m_pool.array<uint8_t>( slot, FRAME + c ) );
    }
  }
}

void Tracer::takeNextPicture()
{
  if( m_output.empty() )
  {
    leave( "internal", "the decoder gave a frame that no traced call returned" );
  }
  const Picture& picture = *m_output.front();
  m_output.pop_front();

  if( !m_pool.configured() )                                  // concealed before anything was decoded
  {
    m_pool.configure( geometryOf( picture ), m_options.wideVectors, m_options.withFrames );
    announceStream( picture );
  }

  int        slot      = m_pool.find( &picture );
  const bool hasPriors = slot >= 0 && !picture.wasLost && !picture.error;
  if( slot >= 0 && !hasPriors && !m_options.withFrames )
  {
    m_pool.discard( slot );
    slot = -1;
  }
  if( slot < 0 && m_options.withFrames )
  {
    slot = m_pool.acquire( &picture );
    m_pool[slot].pictureType = m_pool[slot].sliceQp = m_pool[slot].lmcs = 0;
  }
  if( slot >= 0 && m_pool[slot].mvOutOfRange )
  {
    leave( "mv_range", "a motion vector does not fit into 16 bits" );
  }
  if( slot >= 0 && m_pool[slot].colourTransform )
  {
    leave( "unsupported", "adaptive colour transform (the residual is not in the planes of the picture)" );
  }
  if( slot >= 0 && m_pool[slot].referenceOutOfRange )
  {
    leave( "unsupported", "a reference picture is more than 32767 pictures away" );
  }
  if( m_options.withFrames )
  {
    copyFrame( picture, slot );
  }

  const int decodeOrder = codedOrder( picture ), sequence = sequenceNumber( decodeOrder );
  char      buffer[512];
  snprintf( buffer, sizeof( buffer ),
            "{\"event\": \"picture\", \"slot\": %d, \"has_priors\": %s, \"poc\": %d, \"decode_order\": %d, \"cvs\": %d, "
            "\"picture_type\": %d, \"slice_qp\": %d, \"lmcs\": %d, \"coded_size_bytes\": %u}",
            slot, hasPriors ? "true" : "false", picture.getPOC(), decodeOrder, sequence,
            slot >= 0 ? m_pool[slot].pictureType : 0, slot >= 0 ? m_pool[slot].sliceQp : 0, slot >= 0 ? m_pool[slot].lmcs : 0,
            picture.getNaluBits() / 8 );

  if( slot >= 0 )
  {
    m_pool.detach( slot );
  }

  const SPS& sps     = *picture.cs->sps;
  const int  reorder = sps.getNumReorderPics( sps.getMaxTLayers() - 1 );
  if( m_emitted == 0 && m_waiting.empty() )
  {
    m_leastReorder = reorder;
  }
  else if( sequence != m_sequence )
  {
    closeSequence();
    m_leastReorder = std::min( m_leastReorder, m_reorder );
  }
  m_sequence = sequence;
  m_reorder  = reorder;
  m_waiting.push_back( { picture.getPOC(), slot, buffer } );
  m_positions.push_back( { decodeOrder, picture.getPOC() } );
  // VVdeC reorders the first pictures of a sequence as an earlier one demands. Where that is too little, we do the rest.
  const bool dropsLater = m_cuts.upper_bound( decodeOrder ) != m_cuts.end();
  emitWaitingPictures( dropsLater ? m_waiting.size() : reorder > m_leastReorder ? reorder : 0 );
}

// Ends the coded video sequence of the last frame. Where the next one tells so (sh_no_output_of_prior_pics_flag), pictures
// that the bumping process (C.5.2) had not yet output when it began are dropped.
void Tracer::closeSequence()
{
  const size_t next = m_sequence + 1;
  if( next < m_sequenceStarts.size() && m_cuts.count( m_sequenceStarts[next] ) )
  {
    std::sort( m_positions.begin(), m_positions.end(), []( auto& a, auto& b ) { return a.decodeOrder < b.decodeOrder; } );
    std::set<int> dropped;                                    // POCs, of which the smallest one is output first
    for( const Position& position : m_positions )
    {
      dropped.insert( position.poc );
      if( (int) dropped.size() > m_reorder )
      {
        dropped.erase( dropped.begin() );
      }
    }
    const auto kept = std::partition( m_waiting.begin(), m_waiting.end(), [&]( auto& waiting ) { return !dropped.count( waiting.poc ); } );
    std::for_each( kept, m_waiting.end(), [&]( auto& waiting ) { if( waiting.slot >= 0 ) m_pool.discard( waiting.slot ); } );
    m_waiting.erase( kept, m_waiting.end() );
  }
  m_positions.clear();
  emitWaitingPictures();
}

void Tracer::emitWaitingPictures( size_t left )
{
  while( m_waiting.size() > left )
  {
    const auto next = std::min_element( m_waiting.begin(), m_waiting.end(), []( auto& a, auto& b ) { return a.poc < b.poc; } );
    if( next->slot >= 0 )
    {
      m_pool.hand( next->slot );
    }
    emit( next->event );
    m_waiting.erase( next );
    m_emitted++;
  }
}

// --------------------------------------------------------------------------------------------------------------------
// blocks (called from the decoder's worker threads; a CTU belongs to one thread, so nothing is locked)
// --------------------------------------------------------------------------------------------------------------------

// Residual of one CTU. Called between inverse transform and prediction: the reconstruction buffer holds the residual of
// coded transform units and nothing that matters elsewhere.
static void traceResidual( SlotPool& pool, int slot, CodingStructure& cs, int ctuAddress, const UnitArea& ctu )
{
  for( const CompArea& area : ctu.blocks )
  {
    const int stride = pool.geometry().planeWidth( area.compID() );
    int16_t*  target = pool.array<int16_t>( slot, RESIDUAL + area.compID() ) + size_t( area.y ) * stride + area.x;
    for( int y = 0; y < (int) area.height; y++, target += stride )
    {
      memset( target, 0, area.width * sizeof( int16_t ) );
    }
  }
  for( CodingUnit& cu : cs.traverseCUs( ctuAddress ) )
  {
    if( !cu.rootCbf() )
    {
      continue;
    }
    if( cu.colorTransform() )
    {
      pool[slot].colourTransform = true;
    }
    for( const TransformUnit& tu : TUTraverser( &cu.firstTU, cu.lastTU->next ) )
    {
      for( const CompArea& area : tu.blocks )
      {
        const ComponentID component = area.compID();
        if( !area.valid() || !( TU::getCbf( tu, component ) || ( isChroma( component ) && tu.jointCbCr ) ) )
        {
          continue;
        }
        const CPelBuf source = static_cast<const CodingStructure&>( cs ).getRecoBuf( area );
        const int     stride = pool.geometry().planeWidth( component );
        int16_t*      target = pool.array<int16_t>( slot, RESIDUAL + component ) + size_t( area.y ) * stride + area.x;
        for( int y = 0; y < (int) area.height; y++, target += stride )
        {
          memcpy( target, source.bufAt( 0, y ), area.width * sizeof( int16_t ) );
        }
      }
    }
  }
}

static uint8_t flagsOf( const CodingUnit& cu )
{
  enum { SKIP = 1, MERGE = 2, AFFINE = 4, GEO = 8, CIIP = 16 };
  return ( cu.skip() ? SKIP : 0 ) | ( cu.mergeFlag() ? MERGE : 0 ) | ( cu.affineFlag() ? AFFINE : 0 )
       | ( cu.geoFlag() ? GEO : 0 ) | ( cu.ciipFlag() ? CIIP : 0 );
}

enum { RESIDUAL_CODED = 32, LEFT_EDGE = 64, TOP_EDGE = 128 };
constexpr int16_t REF_NONE = std::numeric_limits<int16_t>::min();

template<int COLS, typename T>
static void fillRows( T* first, int stride, int rows, T value )
{
  for( int y = 0; y < rows; y++, first += stride )
  {
    std::fill_n( first, COLS, value );
  }
}

// Fill a block of a map. Most blocks are a few cells wide, for which a call to memset for each row costs more than the row.
template<typename T>
static void fillBlock( T* first, int stride, int cols, int rows, T value )
{
  switch( cols )
  {
  case 1: return fillRows<1>( first, stride, rows, value );
  case 2: return fillRows<2>( first, stride, rows, value );
  case 4: return fillRows<4>( first, stride, rows, value );
  case 8: return fillRows<8>( first, stride, rows, value );
  case 16: return fillRows<16>( first, stride, rows, value );
  }
  for( int y = 0; y < rows; y++, first += stride )
  {
    std::fill_n( first, cols, value );
  }
}

// One list's motion of a block with one vector.
template<typename MvType>
static void fillMotion( SlotPool& pool, int slot, int list, const Area& block, Mv mv, int reference )
{
  struct Vector
  {
    MvType x, y;
  };
  const Vector vector{ (MvType) mv.hor, (MvType) mv.ver };
  if( vector.x != mv.hor || vector.y != mv.ver )
  {
    pool[slot].mvOutOfRange = true;
  }
  const int    gridWidth = pool.geometry().gridWidth();
  const int    cols = block.width / 4, rows = block.height / 4;
  const size_t first = size_t( block.y / 4 ) * gridWidth + block.x / 4;
  fillBlock( pool.array<Vector>( slot, MV_L0 + list ) + first, gridWidth, cols, rows, vector );
  fillBlock( pool.array<int16_t>( slot, REF_L0 + list ) + first, gridWidth, cols, rows, (int16_t) reference );
}

template<typename MvType>
static void clearMotion( SlotPool& pool, int slot, const Area& area )
{
  for( int list = 0; list < 2; list++ )
  {
    fillMotion<MvType>( pool, slot, list, area, Mv( 0, 0 ), REF_NONE );
  }
}

// Motion of one CU from the decoder's 4x4 map. `cu.mv` will not do: affine and temporal sub-block merge have a vector per
// sub-block, and compensation of geometric partitions overwrites it.
template<typename MvType>
static void traceMotion( SlotPool& pool, int slot, const CodingStructure& cs, const CtuData& ctuData, const CodingUnit& cu )
{
  const Area area    = cu.Y();
  const bool refined = cu.dmvrCondition();
  const bool varies  = cu.affineFlag() || cu.geoFlag() || cu.mergeType() == MRG_TYPE_SUBPU_ATMVP;
  const int  width   = varies ? 4 : refined ? std::min<int>( area.width, DMVR_SUBCU_WIDTH ) : area.width;
  const int  height  = varies ? 4 : refined ? std::min<int>( area.height, DMVR_SUBCU_HEIGHT ) : area.height;

  // Decoder-side refinement: a delta per sub-block, in raster order, added to L0 and subtracted from L1.
  const Mv* delta = refined ? cs.m_dmvrMvCache + cu.mvdL0SubPuOff : nullptr;
  for( int y = area.y; y < int( area.y + area.height ); y += height )
  {
    for( int x = area.x; x < int( area.x + area.width ); x += width )
    {
      const MotionInfo& motion = ctuData.motion[cs.inCtuPos( Position( x, y ), CH_L )];
      for( int list = 0; list < 2; list++ )
      {
        const Area block( x, y, width, height );
        const int  index = motion.miRefIdx[list];
        if( index < 0 )                                       // the vector of an unused list is garbage
        {
          fillMotion<MvType>( pool, slot, list, block, Mv( 0, 0 ), REF_NONE );
          continue;
        }
        const int distance = ctuData.slice->getRefPOC( RefPicList( list ), index ) - cs.picture->getPOC();
        if( distance != (int16_t) distance || distance == REF_NONE )
        {
          pool[slot].referenceOutOfRange = true;
        }
        const Mv mv = !refined ? motion.mv[list] : list == 0 ? cu.mv[0][0] + *delta : cu.mv[1][0] - *delta;
        fillMotion<MvType>( pool, slot, list, block, mv, distance );
      }
      delta += refined;
    }
  }
}

static void traceModes( SlotPool& pool, int slot, const CodingUnit& cu )
{
  const int     gridWidth = pool.geometry().gridWidth();
  const Area    area      = cu.Y();
  const int     cols = area.width / 4, rows = area.height / 4;
  const uint8_t flags = flagsOf( cu );
  const uint8_t size  = uint8_t( getLog2( area.width ) << 4 | getLog2( area.height ) );
  const size_t  first = size_t( area.y / 4 ) * gridWidth + area.x / 4;

  uint8_t* flagMap = pool.array<uint8_t>( slot, FLAGS );
  fillBlock( pool.array<uint8_t>( slot, PRED_MODE ) + first, gridWidth, cols, rows, (uint8_t) cu.predMode() );
  fillBlock( pool.array<uint8_t>( slot, CU_SIZE ) + first, gridWidth, cols, rows, size );
  fillBlock( pool.array<int8_t>( slot, QP ) + first, gridWidth, cols, rows, (int8_t) cu.qp );
  fillBlock( flagMap + first, gridWidth, cols, rows, flags );
  fillBlock( flagMap + first, gridWidth, cols, 1, uint8_t( flags | TOP_EDGE ) );
  for( int y = 0; y < rows; y++ )
  {
    flagMap[first + size_t( y ) * gridWidth] |= LEFT_EDGE;
  }
  if( !cu.rootCbf() )
  {
    return;
  }
  for( const TransformUnit& tu : cTUTraverser( &cu.firstTU, cu.lastTU->next ) )
  {
    if( !tu.Y().valid() || !TU::getCbf( tu, COMPONENT_Y ) )
    {
      continue;
    }
    // Sub-partitioned intra blocks can be narrower than a cell.
    const int left = tu.Y().x / 4, right = ( tu.Y().x + tu.Y().width + 3 ) / 4;
    for( int y = tu.Y().y / 4; y < int( tu.Y().y + tu.Y().height + 3 ) / 4; y++ )
    {
      for( int x = left; x < right; x++ )
      {
        flagMap[size_t( y ) * gridWidth + x] |= RESIDUAL_CODED;
      }
    }
  }
}

template<typename MvType>
static void traceBlocks( SlotPool& pool, int slot, CodingStructure& cs, int ctuAddress )
{
  const CtuData& ctuData = cs.getCtuData( ctuAddress );
  for( CodingUnit& cu : cs.traverseCUs( ctuAddress ) )
  {
    if( !cu.Y().valid() )                                     // the chroma tree of a dual tree
    {
      continue;
    }
    traceModes( pool, slot, cu );
    if( CU::isInter( cu ) )
    {
      traceMotion<MvType>( pool, slot, cs, ctuData, cu );
    }
    else
    {
      clearMotion<MvType>( pool, slot, cu.Y() );
    }
  }
}

static void traceBlocks( CodingStructure& cs, int ctuAddress )
{
  SlotPool& pool = g_tracer->pool();
  const int slot = pool.find( cs.picture );
  if( slot >= 0 )
  {
    pool.wideVectors() ? traceBlocks<int32_t>( pool, slot, cs, ctuAddress ) : traceBlocks<int16_t>( pool, slot, cs, ctuAddress );
  }
}

// Private members that no call shows: an explicit instantiation may name them.
template<typename Tag, typename Tag::Type MEMBER>
struct Exposed
{
  friend typename Tag::Type memberOf( Tag ) { return MEMBER; }
};
struct Parser
{
  using Type = DecLibParser DecLib::*;
  friend Type memberOf( Parser );
};
struct ParsedPicture
{
  using Type = Picture* DecLibParser::*;
  friend Type memberOf( ParsedPicture );
};
template struct Exposed<Parser, &DecLib::m_decLibParser>;
template struct Exposed<ParsedPicture, &DecLibParser::m_pcParsePic>;

static const Picture* pictureInParsing( const DecLib& decoder ) { return decoder.*memberOf( Parser() ).*memberOf( ParsedPicture() ); }

}  // namespace codecprior

// --------------------------------------------------------------------------------------------------------------------
// the five wrapped calls
// --------------------------------------------------------------------------------------------------------------------

using codecprior::g_tracer;

extern "C" {

void __real__ZN5vvdec5DecCu12TaskTrafoCtuERNS_15CodingStructureEiRKNS_8UnitAreaE( DecCu*, CodingStructure&, int, const UnitArea& );
void __wrap__ZN5vvdec5DecCu12TaskTrafoCtuERNS_15CodingStructureEiRKNS_8UnitAreaE( DecCu* self, CodingStructure& cs, int ctuAddress,
                                                                                 const UnitArea& ctu )
{
  __real__ZN5vvdec5DecCu12TaskTrafoCtuERNS_15CodingStructureEiRKNS_8UnitAreaE( self, cs, ctuAddress, ctu );
  const int slot = g_tracer->pool().find( cs.picture );
  if( slot >= 0 )
  {
    codecprior::traceResidual( g_tracer->pool(), slot, cs, ctuAddress, ctu );
  }
  if( cs.getCtuData( ctuAddress ).slice->isIntra() )          // TaskInterCtu is not called there
  {
    codecprior::traceBlocks( cs, ctuAddress );
  }
}

void __real__ZN5vvdec5DecCu12TaskInterCtuERNS_15CodingStructureEiRKNS_8UnitAreaE( DecCu*, CodingStructure&, int, const UnitArea& );
void __wrap__ZN5vvdec5DecCu12TaskInterCtuERNS_15CodingStructureEiRKNS_8UnitAreaE( DecCu* self, CodingStructure& cs, int ctuAddress,
                                                                                 const UnitArea& ctu )
{
  __real__ZN5vvdec5DecCu12TaskInterCtuERNS_15CodingStructureEiRKNS_8UnitAreaE( self, cs, ctuAddress, ctu );
  codecprior::traceBlocks( cs, ctuAddress );                  // after compensation: only now is the refinement known
}

void __real__ZN5vvdec11DecLibRecon17decompressPictureEPNS_7PictureE( DecLibRecon*, Picture* );
void __wrap__ZN5vvdec11DecLibRecon17decompressPictureEPNS_7PictureE( DecLibRecon* self, Picture* picture )
{
  g_tracer->pictureStarts( *picture );
  __real__ZN5vvdec11DecLibRecon17decompressPictureEPNS_7PictureE( self, picture );
}

Picture* __real__ZN5vvdec6DecLib6decodeERNS_12InputNALUnitE( DecLib*, InputNALUnit& );
Picture* __wrap__ZN5vvdec6DecLib6decodeERNS_12InputNALUnitE( DecLib* self, InputNALUnit& nalu )
{
  const bool idr     = nalu.m_nalUnitType == NAL_UNIT_CODED_SLICE_IDR_W_RADL || nalu.m_nalUnitType == NAL_UNIT_CODED_SLICE_IDR_N_LP;
  self->setDecodedPictureHashSEIEnabled( g_tracer->verifiesPictures() );
  const auto pending = idr ? g_tracer->pendingPictures() : std::vector<Picture*>();
  Picture*   picture = __real__ZN5vvdec6DecLib6decodeERNS_12InputNALUnitE( self, nalu );
  if( !pending.empty() )
  {
    const Picture* parsed = codecprior::pictureInParsing( *self );
    if( parsed && parsed->isCLVSS() && parsed->slices.front()->getNoOutputOfPriorPicsFlag() )
    {
      g_tracer->dropPriorPictures( pending, *parsed );
    }
  }
  if( picture )
  {
    g_tracer->pictureIsOutput( picture );
  }
  return picture;
}

Picture* __real__ZN5vvdec6DecLib8flushPicEv( DecLib* );
Picture* __wrap__ZN5vvdec6DecLib8flushPicEv( DecLib* self )
{
  Picture* picture = __real__ZN5vvdec6DecLib8flushPicEv( self );
  if( picture )
  {
    g_tracer->pictureIsOutput( picture );
  }
  return picture;
}

}  // extern "C"
